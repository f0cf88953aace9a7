"""What a plan will take: work counted by hand, the authors' own hours, and the same order as the runner's."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration import effort, forecast, nodes, spec
from orchestration.forecast import Speed
from orchestration.spec import Arm
from orchestration.timeline import Task

HOUR = 3600.0


def arm(pipeline: str, name: str) -> Arm:
    return next(arm for arm in spec.load(pipeline).arms if arm.name == name)


def todo(of: Arm, where: str, time: Speed | float | None) -> list[Task]:
    has_gpus = any(node.gpus for node in nodes.parse(where, ""))
    return [
        forecast.task(name, stage, of.stages, needs=stage.needs, has_gpus=has_gpus, time=time)
        for name, stage in of.stages.items()
    ]


@pytest.mark.parametrize(("name", "hours"), [("moco_v2", 53), ("clsa", 70), ("leoclr", 53 * 5 / 4)])
def test_a_v100_takes_the_hours_that_the_authors_name(name: str, hours: float) -> None:
    pretrain = todo(arm("imagenet-leoclr-200", name), "1x8", Speed(effort.V100))[0]
    assert pretrain.ask.seconds == pytest.approx(hours * HOUR, rel=1e-3)


def test_work_is_what_a_hand_counts() -> None:
    stages = arm("imagenet-leoclr-200", "leoclr").stages
    found = {name: effort.of(stage, stages) for name, stage in stages.items()}
    images = 1_281_167
    assert found["pretrain"] == effort.Effort(images * 200 * 5)
    assert found["linear"] == effort.Effort(images * 100)  # frozen: forward alone
    assert found["knn"] == effort.Effort(images + 50_000)
    few = found["semi_supervised"]
    assert few is not None
    assert few.total == pytest.approx(images * (0.01 * 60 + 0.1 * 30) * 3)  # SimCLR B.5: 60 and 30 epochs
    transfer = found["transfer"]
    assert transfer is not None
    assert (transfer.trials, transfer.total) == (56, 57 * 20_000 * 256 * 3)  # SimCLR B.8


def test_small_images_and_trunks_are_less_work() -> None:
    stages = spec.load("table-5").arms
    by_name = {each.name: effort.of(each.stages["pretrain"], each.stages) for each in stages}
    literal, public = (by_name[f"moco_v2 dataset=cifar10 settings={name}"] for name in ("literal", "public"))
    assert literal is not None
    assert public is not None
    assert literal.total == pytest.approx(50_000 * 800 * 4 * 1.81 / 4.09 * (32 / 224) ** 2)
    assert public.total == pytest.approx(16 * literal.total)  # no pooling, no stride


def test_what_cannot_be_told_is_not_guessed() -> None:
    stages = spec.load("methods").arms[0].stages
    assert effort.of(stages["pretrain"], stages) is None  # digits: nobody published how many
    cpu_only = todo(arm("imagenet-leoclr-200", "leoclr"), "1x0x8", None)
    assert {task.ask.seconds for task in cpu_only} == {None}


def test_with_all_times_there_is_a_clock() -> None:
    tasks = todo(arm("table-4", "simclr"), "1x8", Speed(effort.V100))
    assert forecast.in_text(tasks, nodes.parse("1x8", "")).splitlines() == [
        "on 1 node of 8 GPUs:",
        "       0:00  1 pretrain (8 GPUs)",
        "   79:30:00  1 linear (8 GPUs)",
        f"  done after about {forecast.duration(sum(t.ask.seconds or 0 for t in tasks))}, "
        f"{sum(t.ask.seconds or 0 for t in tasks) * 8 / HOUR:,.1f} GPU-hours, 100% of them used",
    ]


def test_without_one_of_them_there_is_the_order_alone() -> None:
    own = arm("imagenet-leoclr-200", "leoclr")
    tasks = todo(own, "1x8", 60.0)[:2] + todo(own, "1x8", None)[2:3]
    said = forecast.in_text(tasks, nodes.parse("1x8,2x1", ""))
    assert said.splitlines() == [
        "on 1 node of 8 GPUs, 2 nodes of 1 GPU:",
        "      first  1 pretrain (8 GPUs)",
        "       then  1 linear (8 GPUs), 1 knn (1 GPU)",
        "  time unknown: no earlier run tells how long knn takes",
    ]


def test_what_never_fits_is_said() -> None:
    said = forecast.in_text(todo(arm("table-4", "simclr"), "1x4", 60.0), nodes.parse("1x4", ""))
    assert said.splitlines()[-1] == "  never, these nodes cannot hold it or what it needs: linear, pretrain"


def test_a_grid_takes_as_many_trials_at_once_as_it_is_given() -> None:
    tasks: list[Any] = [
        task
        for task in todo(arm("imagenet-leoclr-200", "leoclr"), "1x8", Speed(effort.V100))
        if task.title == "transfer"
    ]
    one_training = 20_000 * 256 * 3 / effort.V100
    (task,) = tasks
    assert task.takes_s(56) == pytest.approx(2 * one_training)
    assert task.takes_s(8) == pytest.approx(8 * one_training)  # 7 rounds of 8, and the last training
    assert task.takes_s(1) == pytest.approx(57 * one_training)
