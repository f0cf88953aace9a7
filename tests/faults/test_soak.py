"""A short soak: ten kills at random, and the end is that of a calm run."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.chaos import soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_ten_kills_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "EPOCHS", 2)
    monkeypatch.setattr(soak, "LONGEST_S", 30.0)
    soaked = soak.run(tmp_path / "soak", kills=10, seed=7, show=print)
    assert (soaked.kills.total(), soaked.lost) == (10, 0)
