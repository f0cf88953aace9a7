"""A population: who goes on from whom between generations, as a search and as pipelines."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestration import plan
from orchestration.errors import SpecError
from orchestration.storage import Home
from orchestration.sweep import plan as sweep_plan
from orchestration.sweep import search as sweep_search
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep import trial_spec
from orchestration.sweep.ledger import Asked, Entry, Ledger
from orchestration.sweep.options import Pbt
from orchestration.sweep.population import Member, next_generation
from orchestration.sweep.search import Search
from orchestration.sweep.spec import SweepSpec
from orchestration.sweep.tune import NotYet
from orchestration.tracking import Store

LR, TEMPERATURE = "pretrain.params.lr", "pretrain.params.settings.temperature"
FILE = """
base: quickstart
set: {matrix.method: [leoclr], pretrain.params.epochs: 5}
objectives: {top-1: {stage: linear, metric: top1}}
axes:
  pretrain.params.lr: {loguniform: [0.001, 0.1]}
  pretrain.params.settings.temperature: [0.05, 0.1, 0.2]
search: {kind: random, seed: 3}
scheduler: {kind: pbt, population: 4, interval: 2}
"""


@pytest.fixture
def sweep(tmp_path: Path) -> SweepSpec:
    (tmp_path / "s.yaml").write_text(FILE)
    return sweep_spec.load(str(tmp_path / "s.yaml"))


def ended(asked: Asked, score: float | None) -> Entry:
    history = () if score is None else ((2, score),)
    state = "failed" if score is None else "stopped"
    return Entry(asked.number, asked.point, asked.seeds, state, history=history, before=asked.before)


def generation(search: Search, scores: list[float | None]) -> list[Asked]:
    """Ask for a generation, and tell what its members reached."""
    found = [asked for _ in scores if (asked := search.ask())]
    for asked, score in zip(found, scores, strict=True):
        search.tell(ended(asked, score))
    return found


def test_the_worst_goes_on_from_the_best_with_values_moved_and_the_others_go_on(sweep: SweepSpec) -> None:
    search = sweep_search.begin(sweep, [], again=[])
    assert search.total == 12  # epochs 1-2, 3-4 and 5 of four members
    first = generation(search, [70.0, 50.0, 90.0, 60.0])
    second = generation(search, [70.0, 80.0, 90.0, 60.0])
    assert [asked.before for asked in first] == [()] * 4
    for member in (0, 2, 3):
        assert (second[member].before, second[member].point) == ((first[member].point,), first[member].point)
    assert second[1].before == (first[2].point,), "the best one's weights"
    assert second[1].point != first[2].point
    lr, donor = second[1].point[LR], first[2].point[LR]
    assert isinstance(lr, float)
    assert isinstance(donor, float)
    assert 0.001 <= lr <= 0.1
    third = generation(search, [1.0, 2.0, 3.0, 4.0])
    assert third[3].before == (*second[2].before, second[2].point)
    assert search.ask() is None


def test_a_generation_waits_for_the_last_one(sweep: SweepSpec) -> None:
    search = sweep_search.begin(sweep, [], again=[])
    first = [asked for _ in range(4) if (asked := search.ask())]
    for asked in first[:3]:
        search.tell(ended(asked, 50.0))
    with pytest.raises(NotYet):
        search.ask()
    search.tell(ended(first[3], 50.0))
    assert search.ask()


def test_after_a_kill_the_same_decisions_are_made(sweep: SweepSpec, tmp_path: Path) -> None:
    calm, ledger = sweep_search.begin(sweep, [], again=[]), Ledger(tmp_path / "ledger")
    first = generation(calm, [70.0, 50.0, 90.0, 60.0])
    second = generation(calm, [71.0, 81.0, 91.0, 61.0])
    for asked, score in zip([*first, *second[:2]], (70.0, 50.0, 90.0, 60.0, 71.0), strict=False):
        ledger.make(asked, {})
        ledger.end(ended(asked, score))
    ledger.make(second[1], {})  # and then the kill
    kept = Ledger(tmp_path / "ledger").entries
    random.seed(99)
    search = sweep_search.begin(sweep, kept.values(), again=[kept[5]])
    assert [search.ask() for _ in range(3)] == second[1:]


def test_a_member_that_failed_goes_on_from_a_good_one(sweep: SweepSpec) -> None:
    search = sweep_search.begin(sweep, [], again=[])
    first = generation(search, [None, None, 90.0, 60.0])
    second = generation(search, [1.0, 2.0, 3.0, 4.0])
    assert [second[member].before for member in (0, 1)] == [(first[2].point,)] * 2


def test_where_all_failed_there_is_no_next_generation(sweep: SweepSpec) -> None:
    search = sweep_search.begin(sweep, [], again=[])
    generation(search, [None] * 4)
    assert search.ask() is None


def test_values_are_moved_as_the_paper_says(sweep: SweepSpec) -> None:
    """A number is multiplied by 0.8 or 1.2, a value of a list moves by one place, or both are drawn anew."""
    options = Pbt(kind="pbt", interval=1, resample=0.0)
    members = [Member(({LR: 0.01, TEMPERATURE: 0.1},), score) for score in (1.0, 2.0)]
    seen = set()
    for seed in range(40):
        moved = next_generation(members, sweep.space, options, seed=seed)[0][-1]
        seen.add((moved[LR], moved[TEMPERATURE]))
    assert seen == {(lr, t) for lr in (0.008, 0.012) for t in (0.05, 0.2)}
    anew = Pbt(kind="pbt", interval=1, resample=1.0)
    drawn = {next_generation(members, sweep.space, anew, seed=seed)[0][-1][LR] for seed in range(40)}
    assert len(drawn) > 30
    assert all(isinstance(lr, float) and 0.001 <= lr <= 0.1 for lr in drawn)


def test_values_stay_in_their_ranges(sweep: SweepSpec) -> None:
    options = Pbt(kind="pbt", interval=1, resample=0.0)
    members = [Member(({LR: 0.1, TEMPERATURE: 0.2},), score) for score in (1.0, 2.0)]
    moved = [next_generation(members, sweep.space, options, seed=seed)[0][-1] for seed in range(20)]
    assert {each[LR] for each in moved} == {0.08, 0.1}


def test_least_is_best_where_the_sweep_says_so(sweep: SweepSpec) -> None:
    options = Pbt(kind="pbt", interval=1, direction="min")
    members = [Member(({LR: lr, TEMPERATURE: 0.1},), score) for lr, score in ((0.01, 1.0), (0.02, 2.0))]
    found = next_generation(members, sweep.space, options, seed=0)
    assert found[1][0] == members[0].lineage[0]


def test_what_two_members_share_is_one_stage(sweep: SweepSpec) -> None:
    one, other = {LR: 0.01, TEMPERATURE: 0.1}, {LR: 0.02, TEMPERATURE: 0.2}
    best = trial_spec.pipeline(sweep, one, [0], (one, one))
    copy = trial_spec.pipeline(sweep, other, [0], (one, one))
    assert list(best.arms[0].stages) == ["pretrain-1", "pretrain-2", "pretrain", "linear"]
    ends = [stage.params_json.get("until") for stage in best.arms[0].stages.values()]
    assert ends == [2, 4, None, None]
    plans = [plan.make(each, digests={"mnist5k": "d"}, past=[], results_version=1) for each in (best, copy)]
    mine, theirs = (next(iter(made.arms.values())) for made in plans)
    assert [mine[name] == theirs[name] for name in mine] == [True, True, False, False]


def test_only_who_comes_to_the_end_is_evaluated(sweep: SweepSpec) -> None:
    point = {LR: 0.01, TEMPERATURE: 0.1}
    assert list(trial_spec.pipeline(sweep, point, [0]).arms[0].stages) == ["pretrain"]
    assert trial_spec.pipeline(sweep, point, [0]).arms[0].stages["pretrain"].params_json["until"] == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("interval: 2}", "interval: 2}\nbudget: {trials: 3}", "budget.trials: a population has no other number of"),
        ("interval: 2", "interval: 5", "scheduler.interval: a schedule of 5 epochs does not go on after epoch 5"),
        ("interval: 2", "interval: 2, stage: linear", "axes.pretrain.params.lr: a population moves params of `linear`"),
        ("pretrain.params.lr: ", "pretrain.params.width: [8, 16]\n  pretrain.params.lr: ", "axes: width 8 -> 16"),
        (
            "pretrain.params.lr: {loguniform: [0.001, 0.1]}\n  pretrain.params.settings.temperature: [0.05, 0.1, 0.2]",
            "pretrain.params.lr: [1, 2]\n  pretrain.params.nesterov: {choice: [true], when: {pretrain.params.lr: 1}}",
            "axes.pretrain.params.nesterov: a population moves params of `pretrain` alone, all of them in every member",
        ),
    ],
)
def test_what_no_population_can_have_is_told_before_anything_runs(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    (tmp_path / "s.yaml").write_text(FILE.replace(old, new))
    home = Home(tmp_path / "home")
    with pytest.raises(SpecError) as caught:
        sweep_plan.make(sweep_spec.load(str(tmp_path / "s.yaml")), home, Store.open(home), dry=True)
    assert f"s.yaml: {said}" in str(caught.value)


def test_what_cannot_change_as_it_trains_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        FILE.replace("pretrain.params.lr: {loguniform: [0.001, 0.1]}", "pretrain.params.width: [8, 16]")
    )
    sweep = sweep_spec.load(str(tmp_path / "s.yaml"))
    points = [{"pretrain.params.width": width, TEMPERATURE: 0.1} for width in (8, 16)]
    with pytest.raises(SpecError) as caught:
        trial_spec.pipeline(sweep, points[1], [0], (points[0],))
    assert "width 8 -> 16" in str(caught.value)
    assert "cannot change on the way" in caught.value.hint
