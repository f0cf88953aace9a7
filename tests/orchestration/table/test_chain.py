"""Of a store, what some runs stand on is read, and no more."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

import pytest

from orchestration import records
from orchestration.records import StageRun, Status
from orchestration.table.chain import Chain


class _Store:
    """Has a run for each letter, whose fingerprint is the letter doubled; remembers what it is asked for."""

    def __init__(self, **stands_on: str) -> None:
        self.runs = {name: _run(name, inputs) for name, inputs in stands_on.items()}
        self.asked: list[list[str]] = []

    def stages(self, kind: str, datasets: Sequence[str] | None = None) -> list[StageRun]:
        return [run for run in self.runs.values() if run.kind == kind]

    def stage_runs(self, run_ids: Iterable[str]) -> dict[str, StageRun]:
        return {run_id: self.runs[run_id] for run_id in run_ids if run_id in self.runs}

    def stages_of(self, fingerprints: Collection[str]) -> list[StageRun]:
        self.asked.append(list(fingerprints))
        return [run for run in self.runs.values() if run.tags[records.FINGERPRINT] in fingerprints]


def _run(name: str, inputs: str, *, of: str = "", status: Status = "FINISHED", started_ms: int = 0) -> StageRun:
    needs = {f"stage {each}": each * 2 for each in inputs}
    tags = {records.FINGERPRINT: (of or name) * 2, records.INPUTS: json.dumps(needs)}
    return StageRun(name, "linear", "linear", "", status, {}, tags, {}, started_ms, 1, "")


def test_what_runs_stand_on_is_read_level_by_level() -> None:
    store = _Store(a="", b="a", c="b", d="ab", e="d", other="a")
    chain = Chain()
    chain.read(store, ["c", "e", "absent"])
    assert store.asked == [["bb", "dd"], ["aa"]]
    assert chain.runs.keys() == {*"abcde"}
    assert [run.run_id for run in chain.walk(["c"])] == ["c", "b", "a"]
    chain.read(store, ["c", "b"])
    assert len(store.asked) == 2  # all of that is known


def test_what_is_gone_is_asked_for_once() -> None:
    store = _Store(b="a", c="ab")
    chain = Chain()
    chain.read(store, ["c"])
    assert store.asked == [["aa", "bb"]]
    assert chain.needs(chain.runs["c"]) == {"stage b": store.runs["b"]}


@pytest.mark.parametrize("everything", [False, True])
def test_a_run_stands_on_the_newest_that_is_finished(everything: bool) -> None:
    store = _Store(a="", c="a")
    store.runs["older"] = _run("older", "", of="a", started_ms=-1)
    store.runs["newer"] = _run("newer", "", of="a", started_ms=1)
    store.runs["failed"] = _run("failed", "", of="a", status="FAILED", started_ms=2)
    chain = Chain.of_all(store) if everything else Chain()
    chain.read(store, ["c"])
    assert [run.run_id for run in chain.walk(["c"])] == ["c", "newer"]
