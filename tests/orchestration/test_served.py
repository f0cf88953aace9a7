"""What is asked of a store behind MLflow's own server, which answers otherwise than a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.chaos.service import mlflow
from orchestration.provenance import Owner
from orchestration.storage import Home
from orchestration.sweep import records as sweep_records
from orchestration.tracking import Store


def test_texts_at_any_depth_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow(tmp_path / "server") as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        store = Store.open(Home(tmp_path / "home"))
        assert store.is_served
        tags = sweep_records.sweep_tags("s", title="s", owner=Owner.current(), now_ms=1)
        run_id = store.begin(tags, {"sweep.yaml": "title: s\n"}, resume=None)
        (tmp_path / "table.md").write_text("| a |\n")
        store.log_files(run_id, [tmp_path / "table.md"])
        assert store.text(run_id, "table.md") == "| a |\n"
        assert store.text(run_id, "provenance/sweep.yaml") == "title: s\n"
        assert store.text(run_id, "absent.md") is None
        assert store.text(run_id, "provenance/absent.md") is None
