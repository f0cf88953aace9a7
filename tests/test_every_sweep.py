"""Every shipped sweep loads, says in its head what it is, and makes trials of its base and of every other it names."""

import re
from pathlib import Path

import pytest

from orchestration import plan
from orchestration.document import Place, mapping, read_file
from orchestration.sweep import plan as sweep_plan
from orchestration.sweep import search as sweep_search
from orchestration.sweep import space as sweep_space
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep import trial_spec as sweep_trial_spec
from orchestration.sweep.options import Pbt
from orchestration.sweep.view import result
from tests.orchestration.sweep.points import contains

FIELDS = ("What", "Command", "Cost", "Expected", "Source")


def bases(name: str) -> list[str | None]:
    """None for the sweep's own base."""
    document = mapping(read_file(sweep_spec.shipped()[name], name), Place(name))
    return [None, *mapping(document.get("with"), Place(name))]


EVERY = [(name, base) for name in sweep_spec.shipped() for base in bases(name)]


def test_there_is_every_sweep_of_the_papers() -> None:
    ablations = "augment temperature momentum queue crop-scale original-view labels backbone end-to-end"
    others = {"clsa-losses", "spcl-losses", "spcl-prototypes", "search-leoclr", "population-leoclr"}
    assert set(sweep_spec.shipped()) == {f"ablation-{name}" for name in ablations.split()} | others


@pytest.mark.parametrize("name", sweep_spec.shipped())
def test_the_head_says_what_it_is(name: str) -> None:
    head = [line for line in sweep_spec.shipped()[name].read_text("ascii").splitlines() if line[:1] == "#"]
    fields = [found[1] for line in head if (found := re.match(r"# (\w+): +\S", line))]
    assert fields == list(FIELDS)
    command = next(line for line in head if line.startswith("# Command:"))
    assert re.search(rf"leoclr-ops sweep {re.escape(name)}$", command)


@pytest.mark.parametrize(("name", "base"), EVERY)
def test_every_value_makes_a_trial_and_a_plan(name: str, base: str | None) -> None:
    sweep = sweep_spec.load(name, base=base)
    assert sweep.name == (name if base is None else f"{name}-{base}")
    for point in sweep_plan.probes(sweep):
        assert contains(sweep.space, point)
        before = (point,) * (sweep_trial_spec.generations(sweep, point) - 1) if isinstance(sweep.scheduler, Pbt) else ()
        pipeline = sweep_trial_spec.pipeline(sweep, point, sweep.seeds, before)
        assert [arm.labels["seed"] for arm in pipeline.arms] == [str(seed) for seed in sweep.seeds]
        assert {goal.stage for goal in sweep.goals.values()} <= set(pipeline.arms[0].stages)
        datasets = {stage.params.dataset for arm in pipeline.arms for stage in arm.stages.values()}
        made = plan.make(pipeline, digests=dict.fromkeys(datasets, "d"), past=[], results_version=1)
        assert {stage.state for stage in made.stages} == {plan.State.TODO}


@pytest.mark.parametrize(("name", "base"), EVERY)
def test_anchors_belong_to_cells(name: str, base: str | None) -> None:
    sweep = sweep_spec.load(name, base=base)
    found = result(sweep, {})
    labels = {axis.name: {sweep_space.label(v) for v in axis.values} for axis in sweep.space}
    for anchor in sweep.anchors:
        for axis, label in anchor.at.items():
            assert label in labels[axis], "a published value of no trial"
    assert {axis for anchor in found.anchors for axis in anchor.labels} <= {axis.name for axis in found.axes}


def test_the_laptop_sweep_of_figure_4_has_eight_trials() -> None:
    sweep = sweep_spec.load("ablation-augment")
    search = sweep_search.begin(sweep, [], again=[])
    asked = [search.ask() for _ in range(9)]
    assert [each is not None for each in asked] == [True] * 8 + [False]


def test_a_copy_elsewhere_is_the_same_sweep(tmp_path: Path) -> None:
    for name, path in sweep_spec.shipped().items():
        copy = tmp_path / f"{name}.yaml"
        copy.write_bytes(path.read_bytes())
        assert sweep_spec.load(str(copy)).yaml == sweep_spec.load(name).yaml
