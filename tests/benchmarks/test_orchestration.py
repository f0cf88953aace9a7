"""The stage that does nothing runs as the product's stages do, in one process and in two."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import orchestration


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_stage_that_does_nothing_runs_with_one_worker_and_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    with orchestration._cluster():
        for workers in (1, 2):
            orchestration._ours(tmp_path, workers)
