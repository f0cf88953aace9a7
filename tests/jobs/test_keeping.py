"""The keeper of a process: none by default, one while a job runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import keeping
from jobs.contract import Resources, Retention
from jobs.keeping import Here


def test_by_default_nothing_is_kept_elsewhere(tmp_path: Path) -> None:
    own = keeping.keeper()
    with own.stage(tmp_path) as held:
        held.keep(tmp_path / "checkpoints" / "00000001", wait=True)
    own.bring(tmp_path / "nothing", digest="d")
    assert own.data("/data/imagenet") == Path("/data/imagenet")
    assert list(tmp_path.iterdir()) == []


def test_one_is_installed_while_a_job_runs() -> None:
    before, own = keeping.keeper(), Here()
    with pytest.raises(RuntimeError, match="a job failed"), keeping.use(own):
        assert keeping.keeper() is own
        raise RuntimeError("a job failed")
    assert keeping.keeper() is before


def test_retention_is_checked() -> None:
    assert Resources().checkpoints == Retention(keep_last=2, keep_best=0)
    for wrong in ({"keep_last": 0}, {"keep_best": -1}, {"keep": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Resources.model_validate({"checkpoints": wrong})
