"""Every shipped pipeline loads, says in its head what it is, and makes a plan."""

import re
from pathlib import Path

import pytest

from orchestration import plan, spec

FIELDS = ("What", "Command", "Cost", "Expected", "Source")


def test_there_is_a_pipeline() -> None:
    assert "quickstart" in spec.shipped()


@pytest.mark.parametrize("name", spec.shipped())
def test_the_head_says_what_it_is(name: str) -> None:
    head = [line for line in spec.shipped()[name].read_text("ascii").split("\n\n")[0].splitlines() if line[:1] == "#"]
    fields = [found[1] for line in head if (found := re.match(r"# (\w+): +\S", line))]
    assert fields == list(FIELDS)
    command = next(line for line in head if line.startswith("# Command:"))
    assert re.search(rf"leoclr-ops submit {re.escape(name)}( |$)", command)


@pytest.mark.parametrize("name", spec.shipped())
def test_it_loads_and_plans(name: str) -> None:
    pipeline = spec.load(name)
    assert pipeline.name == name
    assert pipeline.title
    assert len({arm.name for arm in pipeline.arms}) == len(pipeline.arms)
    datasets = {stage.params.dataset for arm in pipeline.arms for stage in arm.stages.values()}
    made = plan.make(pipeline, digests=dict.fromkeys(datasets, "d"), past=[], results_version=1)
    assert set(made.arms) == {arm.name for arm in pipeline.arms}
    assert {stage.state for stage in made.stages} == {plan.State.TODO}


@pytest.mark.parametrize("name", spec.shipped())
def test_a_copy_elsewhere_is_the_same_pipeline(name: str, tmp_path: Path) -> None:
    copy = tmp_path / f"{name}.yaml"
    copy.write_bytes(spec.shipped()[name].read_bytes())
    assert spec.load(str(copy)).yaml == spec.load(name).yaml
