"""What a table lacks, which stages fill it, and what these take."""

from __future__ import annotations

from pathlib import Path

from orchestration import spec
from orchestration.storage import Home
from orchestration.table import goal as table_goal
from orchestration.table import read as table_read
from orchestration.table.collect import collect
from orchestration.tracking import Store
from tests.orchestration import tracked


def test_before_anything_ran_all_stages_are_in_the_way(tmp_path: Path) -> None:
    goal = table_goal.find(tracked.table(tmp_path), None)
    assert (goal.cells, [each.row for each in goal.missing]) == (2, ["LeOCLR", "MoCo-v2"])
    assert goal.missing[0].stages == (
        ("tiny", "leoclr seed=0", "knn"),
        ("tiny", "leoclr seed=1", "knn"),
    )
    assert [(step.stage.name, step.arm) for step in goal.steps][:2] == [
        ("pretrain", "leoclr seed=0"),
        ("knn", "leoclr seed=0"),
    ]
    assert len(goal.steps) == 8
    assert {step.seconds for step in goal.steps} == {None}
    text = table_goal.in_words(goal)
    assert "2 of 2 cells are missing" in text
    assert "tiny: pretrain leoclr seed=0: unknown: no run of this kind yet" in text
    assert text.endswith("GPU-hours unknown: no run of this kind yet")


def test_what_is_finished_is_not_in_the_way(store: Store, tmp_path: Path) -> None:
    table = tracked.table(tmp_path)
    tracked.finish(store, tmp_path, seeds=(0,))
    goal = table_goal.find(table, store)
    assert [each.why for each in goal.missing] == ["1 of 2 runs", "1 of 2 runs"]
    assert [arm.name for arm in goal.pipelines[0].arms] == ["leoclr seed=1", "moco_v2 seed=1"]
    assert [(step.stage.name, step.arm, step.is_done) for step in goal.steps] == [
        (name, f"{method} seed=1", False) for method in ("leoclr", "moco_v2") for name in ("pretrain", "knn")
    ]
    text = table_goal.in_words(goal)
    assert "tiny: pretrain leoclr seed=1: about 1:00:00, 2.0 GPU-hours" in text  # an hour on 2 workers of 1 GPU
    assert text.endswith("about 4:00:00 one after the other, 4.0 GPU-hours")


def test_a_pretraining_that_is_there_is_a_step_that_is_done(home: Home, store: Store, tmp_path: Path) -> None:
    table = tracked.table(tmp_path)
    runs = tracked.finish(store, tmp_path)
    store._client.delete_run(runs["knn leoclr seed=1"])
    goal = table_goal.find(table, store)
    assert [(step.stage.name, step.is_done) for step in goal.steps] == [("pretrain", True), ("knn", False)]
    assert "1 stage to run, 1 finished before" in table_goal.in_words(goal)


def test_a_whole_table_lacks_nothing(store: Store, tmp_path: Path) -> None:
    table = tracked.table(tmp_path)
    tracked.finish(store, tmp_path)
    goal = table_goal.find(table, store)
    assert (goal.missing, goal.steps, goal.pipelines) == ((), (), ())
    assert table_goal.in_words(goal).endswith("all 2 cells have their runs")
    [gap] = collect(table, store).apart[0].gaps
    assert gap is not None
    assert (gap.n, gap.paired) == (2, True)


def test_a_part_of_a_pipeline_is_one_that_loads_and_runs_no_more_than_it_says() -> None:
    goal = table_goal.find(table_read.load("table-2"), None)
    parts = {part.name: part for part in goal.pipelines}
    assert list(parts) == ["imagenet-leoclr-800", "imagenet-baselines"]
    assert {name for part in parts.values() for arm in part.arms for name in arm.stages} == {
        "pretrain",
        "semi_supervised",
    }
    assert [arm.name for arm in parts["imagenet-baselines"].arms] == ["moco_v2", "simclr", "byol"]
    whole = spec.load("imagenet-baselines")
    assert parts["imagenet-baselines"].arms[0].stages["pretrain"] == whole.arms[0].stages["pretrain"]
    assert "linear" not in parts["imagenet-baselines"].yaml


def test_a_table_of_one_pipeline_is_a_goal_too() -> None:
    goal = table_goal.find(table_read.load("equal-compute"), None)
    assert (goal.cells, len(goal.missing), len(goal.steps)) == (6, 6, 27)
    assert table_goal.find(table_read.load("quickstart"), None).cells == 24


def test_a_cell_that_nothing_fills_says_so() -> None:
    goal = table_goal.find(table_read.load("spcl-ablation"), None)
    assert goal.pipelines == ()
    assert "symmetric, top-1: not run; no pipeline of the table fills it" in table_goal.in_words(goal)


def test_a_changed_protocol_that_the_table_does_not_ask_for_is_not_run_for_it(tmp_path: Path) -> None:
    (tmp_path / "probe.yaml").write_text(
        "stages:\n"
        "  pretrain: {params: {dataset: digits, method: random}}\n"
        "  linear: {needs: [pretrain], params: {dataset: digits, protocol: small, settings: {epochs: 1}}}\n"
    )
    text = (
        "title: a probe\n"
        "pipelines: [probe.yaml]\n"
        "runs: {dataset: digits}\n"
        "rows: {random: {title: random weights}}\n"
        "columns: [{title: top-1, stage: linear, metric: top1}]\n"
    )
    file = tmp_path / "table.yaml"
    file.write_text(text)
    goal = table_goal.find(table_read.load(str(file)), None)
    assert goal.pipelines == () and goal.steps == ()
    assert (
        "probe changes the protocol of linear, and `runs` does not say so: params.settings.epochs"
        in goal.missing[0].why
    )
    file.write_text(text.replace("{dataset: digits}", "{dataset: digits, params.settings.epochs: 1}"))
    goal = table_goal.find(table_read.load(str(file)), None)
    assert [step.stage.name for step in goal.steps] == ["pretrain", "linear"]
