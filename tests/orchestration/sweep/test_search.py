"""Which points are tried: the same after a kill, none twice; Optuna learns from what ended before."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.sweep import search as sweep_search
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep.ledger import Asked, Entry
from orchestration.sweep.search import Search
from orchestration.sweep.spec import SweepSpec
from tests.orchestration.sweep.points import contains

HEAD = """
base: quickstart
objectives: {top-1: {stage: linear, metric: top1}}
axes:
  method: [leoclr, moco_v2]
  pretrain.params.lr: LR
"""


def sweep(tmp_path: Path, lr: str, tail: str) -> SweepSpec:
    (tmp_path / "s.yaml").write_text(HEAD.replace("LR", lr) + tail)
    return sweep_spec.load(str(tmp_path / "s.yaml"))


def all_of(search: Search) -> list[Asked]:
    found = []
    while asked := search.ask():
        found.append(asked)
    return found


def done(asked: Asked, value: float) -> Entry:
    return Entry(asked.number, asked.point, asked.seeds, "done", values={"top-1": value})


def test_a_grid_tries_every_point_with_the_first_seed_before_the_next(tmp_path: Path) -> None:
    found = all_of(sweep_search.begin(sweep(tmp_path, "[0.1, 0.2]", "seeds: [3, 4]"), [], again=[]))
    assert [each.number for each in found] == list(range(8))
    assert [each.seeds for each in found] == [(3,)] * 4 + [(4,)] * 4
    assert [each.point["pretrain.params.lr"] for each in found] == [0.1, 0.2] * 4


@pytest.mark.parametrize("tail", ["", "search: random\nbudget: {trials: 8}"])
def test_after_a_kill_the_cut_off_come_first_and_the_rest_is_the_same(tmp_path: Path, tail: str) -> None:
    spec = sweep(tmp_path, "[0.1, 0.2, 0.3, 0.4]", tail)
    whole = all_of(sweep_search.begin(spec, [], again=[]))
    assert len(whole) == 8
    entries = [done(whole[0], 1.0), Entry(1, whole[1].point, whole[1].seeds, "running"), done(whole[2], 2.0)]
    rest = all_of(sweep_search.begin(spec, entries, again=[entries[1]]))
    assert rest == [whole[1], *whole[3:]]


def test_chance_depends_on_the_seed_of_the_search_and_the_number_alone(tmp_path: Path) -> None:
    tail = "search: {kind: random, seed: SEED}\nbudget: {trials: 5}"
    draws = [
        all_of(sweep_search.begin(sweep(tmp_path, "{loguniform: [0.01, 1]}", tail.replace("SEED", seed)), [], again=[]))
        for seed in ("0", "0", "1")
    ]
    assert draws[0] == draws[1] != draws[2]
    more = sweep(tmp_path, "{loguniform: [0.01, 1]}", "search: random\nbudget: {trials: 7}")
    assert all_of(sweep_search.begin(more, [], again=[]))[:5] == draws[0]


def test_a_budget_ends_a_grid(tmp_path: Path) -> None:
    assert len(all_of(sweep_search.begin(sweep(tmp_path, "[0.1, 0.2]", "budget: {trials: 3}"), [], again=[]))) == 3


def worth(asked: Asked) -> float:
    """A landscape with its top at lr = 0.1 and moco_v2."""
    lr = asked.point["pretrain.params.lr"]
    assert isinstance(lr, float)
    return 100 - 400 * abs(lr - 0.1) - 20 * (asked.point["method"] == "leoclr")


def test_optuna_learns_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    tail = "search: {kind: optuna, startup: 8}\nbudget: {trials: 40}\nseeds: [0, 1]"
    spec = sweep(tmp_path, "{uniform: [0.0, 1.0]}", tail)
    search, entries = sweep_search.begin(spec, [], again=[]), []
    for _ in range(20):
        asked = search.ask()
        assert asked is not None
        assert asked.seeds == (0, 1)
        assert contains(spec.space, asked.point)
        entries.append(done(asked, worth(asked)))
        search.tell(entries[-1])
    cut = Entry(20, {"method": "leoclr", "pretrain.params.lr": 0.7}, (0, 1), "running")
    again = sweep_search.begin(spec, [*entries, cut], again=[cut])
    first = again.ask()
    assert first == Asked(20, dict(cut.point), (0, 1))
    again.tell(done(first, worth(first)))
    later = []
    while asked := again.ask():
        later.append(worth(asked))
        again.tell(done(asked, later[-1]))
    assert len(later) == 19
    early = [entry.values["top-1"] for entry in entries[:8]]
    assert sum(later) / len(later) > sum(early) / len(early) + 20  # by chance the means would be alike


def test_optuna_draws_no_point_again_after_a_kill(tmp_path: Path) -> None:
    spec = sweep(tmp_path, "{uniform: [0.0, 1.0]}", "search: optuna\nbudget: {trials: 8}")
    search = sweep_search.begin(spec, [], again=[])
    begun = [asked for asked in (search.ask() for _ in range(4)) if asked]
    cut = [Entry(asked.number, asked.point, asked.seeds, "running") for asked in begun]  # none of them had ended
    found = all_of(sweep_search.begin(spec, cut, again=cut))
    assert found[:4] == begun
    assert len({each.point["pretrain.params.lr"] for each in found}) == 8


@pytest.mark.parametrize(("state", "direction"), [("stopped", "max"), ("stopped", "min"), ("diverged", "max")])
def test_optuna_learns_from_trials_without_a_result(tmp_path: Path, state: str, direction: str) -> None:
    tail = "search: {kind: optuna, startup: 10}\nscheduler: {kind: asha, direction: DIRECTION}\nbudget: {trials: 40}"
    spec = sweep(tmp_path, "{uniform: [0.0, 1.0]}", tail.replace("DIRECTION", direction))
    entries = []
    for number in range(12):
        point = {"method": "leoclr", "pretrain.params.lr": number / 12}
        good, sign = number < 4, 1 if direction == "max" else -1
        if state == "diverged" and not good:
            entries.append(Entry(number, point, (0,), "diverged"))
        else:  # at one epoch: those with a low rate had come further
            entries.append(Entry(number, point, (0,), "stopped", history=((1, sign * (50.0 if good else 10.0)),)))
    search = sweep_search.begin(spec, entries, again=[])
    rates = []
    while asked := search.ask():
        rates.append(asked.point["pretrain.params.lr"])
        search.tell(Entry(asked.number, asked.point, asked.seeds, "failed"))
    assert sum(isinstance(rate, float) and rate < 0.45 for rate in rates) > 0.75 * len(rates)  # by chance 0.45


def test_optuna_takes_what_has_no_number(tmp_path: Path) -> None:
    spec = sweep(tmp_path, "{uniform: [0.0, 1.0]}", "search: optuna\nbudget: {trials: 6}")
    search = sweep_search.begin(spec, [], again=[])
    ended: list[Entry] = []
    for state in ("diverged", "failed", "stopped"):
        asked = search.ask()
        assert asked is not None
        ended.append(Entry(asked.number, asked.point, asked.seeds, state))  # type: ignore[arg-type]  # a Literal
        search.tell(ended[-1])
    kept = [entry for entry in ended if entry.state != "failed"]
    assert sweep_search.begin(spec, ended, again=[ended[1]]).ask() == Asked(1, dict(ended[1].point), (0,))
    assert len(kept) == 2
