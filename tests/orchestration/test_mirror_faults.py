"""A bucket that refuses at the wrong moment, and ledgers of sweeps that two heads wrote."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from jobs.keeping import Superseded
from tests.orchestration.s3 import Way
from tests.orchestration.test_mirror import OURS, World, _fast, address, lines, result, road, save, until, world

__all__ = ["_fast", "address", "road", "world"]


@pytest.mark.timeout(60)
def test_what_cannot_be_dropped_holds_up_nothing(world: World, road: Way) -> None:
    work = world.work("one")
    with world.keeper("one", keep_last=1).stage(work) as held:
        road.refuse = lambda method, path: 403 if method == "POST" and "delete" in path else None
        for total in (1, 2):
            lines(work, total)
            held.keep(save(work, total), wait=True)
        lines(work, 3)
        until(lambda: (found := world.far("x").objects.get(f"stages/{OURS}/journal.jsonl")) and b'"s": 3' in found[0])
        result(work)
        road.refuse = None
    assert world.far("two").manifest(world.work("two") / "result") is not None


def test_an_attempt_that_is_overtaken_while_a_checkpoint_waits_lets_go_of_its_files(world: World, road: Way) -> None:
    one, asked, kept = world.work("one"), threading.Event(), threading.Event()

    def holds(method: str, path: str) -> None:
        if method == "GET" and path.endswith("attempt"):
            asked.set()
            assert kept.wait(10)

    with pytest.raises(Superseded), world.keeper("one").stage(one) as old:
        with world.keeper("two").stage(world.work("two")):
            pass
        road.refuse = holds
        lines(one, 1)
        assert asked.wait(10)
        old.keep(save(one, 1))
        kept.set()
        until(lambda: not old._thread.is_alive())
        held = [each.resolve() for each in Path("/proc/self/fd").iterdir()]
        assert not [path for path in held if "checkpoints" in path.parts]


@pytest.mark.parametrize(
    ("own", "there", "expected"),
    [
        ("a\nb\n", "a\n", "a\nb\n"),  # this head died before it was sent
        ("a\n", "a\nc\nd\n", "a\nc\nd\n"),  # another head went on
        ("a\nb\n", "a\nc\nd\n", "a\nc\nd\n"),  # both
        ("a\nb\n{torn", "a\nb\nc\n", "a\nb\nc\n"),
        (None, "a\n", "a\n"),
        ("a\n", None, "a\n"),
    ],
)
def test_the_ledger_that_counts_is_the_one_that_went_on(
    own: str | None, there: str | None, expected: str, world: World, tmp_path: Path
) -> None:
    root = tmp_path / "one" / "sweeps" / "s"
    ledger = root / "1" / "ledger.jsonl"
    if own is not None:
        ledger.parent.mkdir(parents=True)
        ledger.write_text(own)
    far = world.far("one").objects
    if there is not None:
        far.put("sweeps/s/1/ledger.jsonl", there.encode())
        far.put("sweeps/s/1/run.json", b'{"run_id": "8f31"}')
    far.put("sweeps/s/../../x/ledger.jsonl", b"outside")
    far.put("sweeps/s/1/other.txt", b"not ours")
    watch = world.driver("one").far
    assert watch
    watch.bring_sweeps(root)
    assert ledger.read_text() == expected
    assert (root / "1" / "run.json").exists() == (there is not None)
    assert {path.name for path in root.rglob("*")} <= {"1", "ledger.jsonl", "run.json"}
