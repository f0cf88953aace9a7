"""What a stage's log says of its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.holding import logged


def test_an_error_leaves_its_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="odd"), logged(tmp_path):
        raise ValueError("odd")
    said = (tmp_path / "log.txt").read_text()
    assert "ERROR worker 0: stopped by\nTraceback" in said
    assert said.endswith("ValueError: odd\n\n")


@pytest.mark.parametrize("told", [SystemExit("The process\nreceives a SIGTERM."), KeyboardInterrupt()])
def test_who_is_told_to_end_leaves_a_line(told: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(told)), logged(tmp_path):
        raise told
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert "ERROR worker 0: stopped from outside: " in line
    assert type(told).__name__ in line
