"""Whatever comes in is taken, or refused with one clear error: no traceback, nothing run, nothing written elsewhere.

The fast tests try a few hundred inputs, the same each time; the slow one 10,000 others, and prints how many.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.hostile import archives, pictures, watch, weights
from tests.hostile.targets import TARGETS, Target

# Hypothesis warns of an input too large to print, just when it is to print the one that failed.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
FEW, MANY = 4, 80  # inputs of a share: FEW of them make the fast test, MANY the slow one


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches in the folder of the test, which is the current one: what runs would write there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LEOCLR_OPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def tried(target: Target, root: Path, count: int, *, start: int | None = None) -> Counter[str]:
    """Return how many of `count` inputs were accepted and refused; the same ones each time where `start` is None."""
    root.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")  # the fixture puts back what was
    act, ended = target.open(root), Counter[str]()

    def note(given_input: Any) -> None:
        ended[act(given_input)] += 1

    quiet = settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=start is None,
        phases=[Phase.generate],  # an input is small as it is, and a slow one would be tried a hundred times
        suppress_health_check=list(HealthCheck),
    )
    test: Callable[[], None] = quiet(given(target.inputs)(note))
    (test if start is None else seed(start)(test))()
    assert not (root / "executed").exists()
    assert not Path("executed").exists()
    return ended


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_of_every_kind(name: str, tmp_path: Path) -> None:
    ended = tried(TARGETS[name], tmp_path.resolve() / "input", FEW * TARGETS[name].share)
    assert ended["refused"] > 0 or name == "checkpoint of ours"  # the one before a damaged one is taken


@pytest.mark.slow
def test_ten_thousand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = int(os.environ.get("LEOCLR_OPS_TEST_SEED", "1"))
    root, whole = tmp_path.resolve(), Counter[str]()
    for name, target in TARGETS.items():
        ended = tried(target, root / name.replace(" ", "-"), MANY * target.share, start=start)
        whole += ended
        with capsys.disabled():
            print(f"\n{name:26} {ended.total():6} inputs, {ended['refused']:6} refused", end="")
    with capsys.disabled():
        print(f"\n{'all':26} {whole.total():6} inputs, {whole['refused']:6} refused")
    assert whole.total() >= 10_000


def _fixed() -> dict[str, tuple[str, Callable[[], Any]]]:
    kinds = {"image": pictures.fixed, "checkpoint of others": weights.fixed, "archive": archives.fixed}
    return {
        f"{kind}: {name}": (kind, functools.partial(_one, all_of, name))
        for kind, all_of in kinds.items()
        for name in all_of()
    }


def _one(all_of: Callable[[], dict[str, bytes]], name: str) -> Any:
    content = all_of()[name]
    return (name.rpartition(".")[2], content) if all_of is weights.fixed else content


HONEST = (
    *("plain", "CMYK", "gray", "progressive", "turned", "palette", "bilevel", "transparent", "16 bit", "float", "LAB"),
    *("moving", "several pages", "one ", "good", "in an envelope", "own.safetensors", "foreign.safetensors"),
)


def test_the_corpus(tmp_path: Path) -> None:
    """Each file that is known for trouble: honest ones are accepted, all others refused.

    An archive may also be accepted and what climbs out of it land inside: the watch sees to that.
    """
    acts = {
        kind: TARGETS[kind].open(_made(tmp_path.resolve() / kind)) for kind in {kind for kind, _ in _fixed().values()}
    }
    ended = {name: acts[kind](make()) for name, (kind, make) in _fixed().items()}
    ended = {name: said for name, said in ended.items() if not name.startswith("archive: ")}
    wrong = {n: e for n, e in ended.items() if (e == "accepted") != n.partition(": ")[2].startswith(HONEST)}
    assert wrong == {}


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_watch_sees(tmp_path: Path) -> None:
    """Else nothing above could fail."""
    import socket
    import subprocess

    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    seen: list[Callable[[], object]] = [
        lambda: os.system("true"),
        lambda: subprocess.run(["true"], check=True),
        lambda: outside.write_text("x"),
        outside.mkdir,
        lambda: (inside / "link").rename(outside),
        lambda: socket.create_connection(("127.0.0.1", 9), timeout=0.1),
    ]
    for act in seen:
        with pytest.raises(AssertionError), watch.watched(inside), contextlib.suppress(OSError):
            act()
    with watch.watched(inside):
        (inside / "x").write_text("x")
    with pytest.raises(ZeroDivisionError):
        watch.outcome(lambda: 1 / 0, inside)
