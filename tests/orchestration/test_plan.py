"""What runs, what does not, and why: decided from values alone."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.contract import Resources
from orchestration.plan import PastRun, Plan, PlannedStage, State, make
from orchestration.spec import Arm, PipelineSpec, StageSpec

DIGESTS = {"mnist5k": "aaaa1111", "digits": "bbbb2222"}
Status = Literal["FINISHED", "RUNNING", "FAILED", "KILLED"]


@dataclass
class Params:
    dataset: str
    seed: int


def stage(name: str, *needs: str, dataset: str = "mnist5k", seed: int = 0, **params: Any) -> StageSpec:
    known = {"dataset": dataset, "seed": seed, **params}
    return StageSpec(name, name, needs, Params(dataset, seed), known, Resources())


def arm(label: str, *, seed: int = 0, epochs: int = 12, temperature: float = 0.2, linear: int = 50) -> Arm:
    stages = (
        stage("linear", "pretrain", seed=seed, epochs=linear),  # the file need not list them in order
        stage("pretrain", seed=seed, method=label, epochs=epochs, settings={"temperature": temperature}),
        stage("transfer", "pretrain", dataset="digits", seed=seed),
    )
    return Arm({"method": label, "seed": str(seed)}, {each.name: each for each in stages})


def pipeline(*arms: Arm, name: str = "p") -> PipelineSpec:
    return PipelineSpec(name, "", None, {}, arms, "p.yaml", "")


def plan(
    spec: PipelineSpec, past: Sequence[PastRun] = (), *, version: int = 1, digests: Mapping[str, str] = DIGESTS
) -> Plan:
    return make(spec, digests=digests, past=past, results_version=version)


def ran(planned: PlannedStage, run_id: str, status: Status = "FINISHED", **other: Any) -> PastRun:
    """Return the trace of `planned` having run."""
    run = PastRun(
        run_id=run_id * 8,
        fingerprint=planned.fingerprint,
        kind=planned.kind,
        stage=planned.name,
        arm=planned.arms[0],
        pipeline="p",
        params=planned.spec.params_json,
        digest=planned.digest,
        results_version=1,
        inputs=planned.inputs,
        status=status,
        reusable=status == "FINISHED",
        problem="",
        seconds=10.0,
        started_ms=1000,
    )
    return replace(run, **other)


def by_name(made: Plan, arm_index: int = 0) -> dict[str, PlannedStage]:
    prints = list(made.arms.values())[arm_index]
    stages = {each.fingerprint: each for each in made.stages}
    return {name: stages[own] for name, own in prints.items()}


@pytest.fixture
def first() -> Plan:
    return plan(pipeline(arm("leoclr")))


def history(made: Plan) -> list[PastRun]:
    return [ran(each, letter) for each, letter in zip(made.stages, "abcdef", strict=False)]


def test_a_first_plan_runs_all_inputs_first(first: Plan) -> None:
    assert [each.name for each in first.stages] == ["pretrain", "linear", "transfer"]
    assert {each.state for each in first.stages} == {State.TODO}
    assert {each.why for each in first.stages} == {"new"}
    assert first.stages[1].inputs == {"pretrain": first.stages[0].fingerprint}
    assert list(first.arms["leoclr seed=0"]) == ["linear", "pretrain", "transfer"]
    assert (first.stages[2].digest, first.total_estimate_s) == ("bbbb2222", None)


def test_a_second_plan_runs_nothing(first: Plan) -> None:
    again = plan(pipeline(arm("leoclr")), history(first))
    assert [(each.state, each.run_id, each.why) for each in again.stages] == [
        (State.DONE, "aaaaaaaa", "finished in run aaaaaaaa"),
        (State.DONE, "bbbbbbbb", "finished in run bbbbbbbb"),
        (State.DONE, "cccccccc", "finished in run cccccccc"),
    ]
    assert again.total_estimate_s == 0
    assert again.fingerprint == first.fingerprint


def test_another_pipeline_reuses_too(first: Plan) -> None:
    again = plan(pipeline(arm("leoclr"), name="other"), history(first))
    assert {each.state for each in again.stages} == {State.DONE}
    assert again.fingerprint != first.fingerprint


def test_equal_stages_of_two_arms_run_once() -> None:
    one = arm("leoclr")
    two = Arm({"x": "1"}, {**one.stages, "linear": stage("linear", "pretrain", epochs=7)})
    made = plan(pipeline(one, two))
    assert [(each.name, each.arms) for each in made.stages] == [
        ("pretrain", ("leoclr seed=0", "x=1")),
        ("linear", ("leoclr seed=0",)),
        ("transfer", ("leoclr seed=0", "x=1")),
        ("linear", ("x=1",)),
    ]


def test_a_changed_param_reruns_it_and_what_follows(first: Plan) -> None:
    made = by_name(plan(pipeline(arm("leoclr", temperature=0.1)), history(first)))
    assert made["pretrain"].why == "reruns because settings.temperature 0.2 -> 0.1"
    assert made["linear"].why == "reruns because pretrain reruns"
    assert {each.state for each in made.values()} == {State.TODO}


def test_a_changed_leaf_spares_what_comes_before(first: Plan) -> None:
    made = by_name(plan(pipeline(arm("leoclr", linear=30)), history(first)))
    assert made["linear"].why == "reruns because epochs 50 -> 30"
    assert (made["pretrain"].state, made["transfer"].state) == (State.DONE, State.DONE)


def test_an_input_that_is_another_finished_run_is_said_so(first: Plan) -> None:
    other = plan(pipeline(arm("leoclr", temperature=0.1)))
    past = [*history(first), replace(ran(other.stages[0], "e"), pipeline="elsewhere")]
    made = by_name(plan(pipeline(arm("leoclr", temperature=0.1)), past))
    assert made["pretrain"].state is State.DONE
    assert made["linear"].why == "reruns because pretrain is another run"


def test_changed_data_and_results_version(first: Plan) -> None:
    made = by_name(plan(pipeline(arm("leoclr")), history(first), digests={**DIGESTS, "digits": "cccc3333"}))
    assert made["transfer"].why == "reruns because the data changed (digest bbbb -> cccc)"
    assert made["linear"].state is State.DONE
    made = by_name(plan(pipeline(arm("leoclr")), history(first), version=2))
    assert {each.why for each in made.values()} == {"reruns because results version 1 -> 2"}


def test_at_most_three_differences_are_named(first: Plan) -> None:
    old = replace(history(first)[1], params={"dataset": "mnist5k", "a": 1, "b": 1, "c": 1})
    made = by_name(plan(pipeline(arm("leoclr", temperature=0.1)), [replace(old, fingerprint="old")]))
    assert made["linear"].why == "reruns because seed unset -> 0, epochs unset -> 50, a 1 -> unset and 2 more"


def test_a_new_arm_is_new_where_all_past_runs_belong_to_other_arms(first: Plan) -> None:
    made = plan(pipeline(arm("leoclr"), arm("leoclr", seed=1)), history(first))
    assert {each.why for each in by_name(made, 1).values()} == {"new"}


def test_the_nearest_run_is_of_the_same_arm_else_differs_least(first: Plan) -> None:
    near = replace(ran(first.stages[0], "n"), fingerprint="n", pipeline="q", started_ms=1)
    far = replace(near, run_id="f", fingerprint="f", params={**near.params, "seed": 9, "lr": 1}, started_ms=9)
    made = by_name(plan(pipeline(arm("leoclr", temperature=0.1)), [far, near]))
    assert made["pretrain"].why == "reruns because settings.temperature 0.2 -> 0.1"
    made = by_name(plan(pipeline(arm("leoclr", temperature=0.1)), [replace(far, pipeline="p"), near]))
    assert made["pretrain"].why.startswith("reruns because seed 9 -> 0, ")


@pytest.mark.parametrize(
    ("status", "word"), [("RUNNING", "interrupted"), ("KILLED", "interrupted"), ("FAILED", "failed")]
)
def test_an_unfinished_run_is_continued(first: Plan, status: Status, word: str) -> None:
    made = plan(pipeline(arm("leoclr")), [ran(first.stages[0], "k", status, started_ms=5)])
    pretrain = made.stages[0]
    assert (pretrain.state, pretrain.run_id, pretrain.resume) == (State.TODO, None, "kkkkkkkk")
    assert pretrain.why == f"continues run kkkkkkkk ({word})"


def test_a_broken_artifact_of_a_leaf_reruns_it(first: Plan) -> None:
    past = history(first)
    past[1] = replace(past[1], reusable=False, problem="missing")
    made = by_name(plan(pipeline(arm("leoclr")), past))
    assert (made["linear"].state, made["linear"].resume) == (State.TODO, None)
    assert made["linear"].why == "reruns because the artifact of run bbbbbbbb is missing"
    assert made["pretrain"].state is State.DONE


def test_a_broken_artifact_that_nobody_needs_is_left_alone(first: Plan) -> None:
    past = history(first)
    past[0] = replace(past[0], reusable=False, problem="missing")
    made = by_name(plan(pipeline(arm("leoclr")), past))
    assert (made["pretrain"].state, made["pretrain"].run_id) == (State.SKIPPED, "aaaaaaaa")
    assert made["pretrain"].why == "not needed: everything after it is finished"
    made = by_name(plan(pipeline(arm("leoclr")), past[:2]))  # transfer is to do and needs it
    assert [made[name].state for name in ("pretrain", "linear", "transfer")] == [State.TODO, State.DONE, State.TODO]


def test_a_sound_run_counts_before_a_later_broken_one(first: Plan) -> None:
    sound = ran(first.stages[1], "s", started_ms=1)
    broken = ran(first.stages[1], "t", reusable=False, problem="missing", started_ms=2)
    killed = ran(first.stages[1], "u", "KILLED", started_ms=3)
    assert by_name(plan(pipeline(arm("leoclr")), [killed, sound, broken]))["linear"].run_id == "ssssssss"


def test_estimates_are_medians_scaled_by_epochs(first: Plan) -> None:
    times = {"a": 10.0, "b": 30.0, "c": 20.0, "d": None}
    past = [ran(first.stages[0], key, seconds=value, fingerprint=key) for key, value in times.items()]
    past.append(ran(first.stages[0], "e", "FAILED", seconds=9999.0, fingerprint="e"))
    past.append(ran(first.stages[0], "f", params={**first.stages[0].spec.params_json, "method": "random"}))
    made = by_name(plan(pipeline(arm("leoclr", epochs=24)), past))
    assert made["pretrain"].estimate_s == 40.0  # twice the median of 10, 20, 30
    assert made["linear"].estimate_s is None
    untrained = by_name(plan(pipeline(arm("leoclr", epochs=0)), past))
    assert untrained["pretrain"].estimate_s is None  # 12 epochs say nothing of none
    whole = plan(pipeline(arm("leoclr", epochs=24)), [*past[:3], *(ran(s, "x") for s in first.stages[1:])])
    assert whole.total_estimate_s == 40.0 + 10.0 + 10.0


@given(
    edges=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)).filter(lambda e: e[0] < e[1]), max_size=12),
    finished=st.sets(st.integers(0, 6)),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_any_graph_is_planned_soundly(edges: set[tuple[int, int]], finished: set[int], order: random.Random) -> None:
    names = list(range(7))
    order.shuffle(names)
    stages = {
        f"s{after}": stage(f"s{after}", *(f"s{before}" for before in range(7) if (before, after) in edges), own=after)
        for after in names
    }
    spec = pipeline(Arm({}, stages))
    blank = plan(spec)
    past = [ran(each, each.name) for each in blank.stages if int(each.name[1:]) in finished]
    made = plan(spec, past)
    place = {each.fingerprint: index for index, each in enumerate(made.stages)}
    states = {each.fingerprint: each.state for each in made.stages}
    assert len(made.stages) == 7
    for each in made.stages:
        needed = list(each.inputs.values())
        assert all(place[need] < place[each.fingerprint] for need in needed)
        assert (each.state is State.DONE) == (int(each.name[1:]) in finished)
        if each.state is State.TODO:  # what it needs is there or will be
            assert all(states[need] is not State.SKIPPED for need in needed)
        after = [other for other in made.stages if each.fingerprint in other.inputs.values()]
        wanted = not after or any(other.state is State.TODO for other in after)
        assert (each.state is State.TODO) == (wanted and each.state is not State.DONE)


def test_a_plan_reads_no_path(tmp_path: Path) -> None:
    spec = replace(pipeline(arm("leoclr")), data={"mnist5k": tmp_path / "is not there"})
    assert plan(spec) == plan(pipeline(arm("leoclr")))
