"""A sweep file is read strictly; another base has what the file says for it; a trial is a pipeline of what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestration.errors import NotFound, SpecError
from orchestration.fingerprint import differences
from orchestration.sweep import plan as sweep_plan
from orchestration.sweep import spec as sweep_spec
from orchestration.sweep import trial_spec as sweep_trial_spec
from orchestration.sweep.ledger import Asked
from orchestration.sweep.spec import SweepSpec

BASE = """
matrix: {method: {leoclr: {}, moco_v2: {}}}
stages:
  pretrain: {params: {dataset: digits, image_size: 16, width: 2, epochs: 2, knn_every: 1, settings: {queue_size: 64}}}
  linear: {needs: [pretrain], params: {dataset: digits, protocol: small}}
  knn: {needs: [pretrain], params: {dataset: digits, protocol: small}}
"""
SWEEP = """
title: two temperatures
base: base.yaml
set: {pretrain.params.epochs: 3}
axes:
  method: [leoclr, moco_v2]
  pretrain.params.settings.temperature: [0.1, 0.2]
seeds: [0, 1]
objectives:
  top-1: {stage: linear, metric: top1}
anchors:
  - {at: {method: leoclr}, value: 71.7, source: a paper}
with:
  other: {seeds: [5], budget: {trials: 3}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "other.yaml").write_text(BASE)
    (tmp_path / "s.yaml").write_text(SWEEP)
    return tmp_path


def load(folder: Path, *overrides: str, base: str | None = None, text: str = "") -> SweepSpec:
    if text:
        (folder / "s.yaml").write_text(text)
    return sweep_spec.load(str(folder / "s.yaml"), base=base, overrides=overrides)


def refused(folder: Path, old: str, new: str) -> str:
    """What is said of the sweep with one change, points included."""
    assert old in SWEEP
    (folder / "s.yaml").write_text(SWEEP.replace(old, new))
    with pytest.raises(SpecError) as caught:
        sweep = sweep_spec.load(str(folder / "s.yaml"))
        for point in sweep_plan.probes(sweep):
            sweep_trial_spec.pipeline(sweep, point, sweep.seeds)
    return str(caught.value).removeprefix(str(folder) + "/")


def test_a_trial_is_the_base_with_the_changes_of_sweep_and_point(folder: Path) -> None:
    sweep = load(folder)
    point = {"method": "moco_v2", "pretrain.params.settings.temperature": 0.2}
    pipeline = sweep_trial_spec.pipeline(sweep, point, [0, 1])
    assert [dict(arm.labels) for arm in pipeline.arms] == [{"method": "moco_v2", "seed": str(s)} for s in (0, 1)]
    params = pipeline.arms[1].stages["pretrain"].params_json
    assert (params["epochs"], params["seed"], params["method"]) == (3, 1, "moco_v2")
    assert params["settings"]["temperature"] == 0.2
    assert set(pipeline.arms[0].stages) == {"pretrain", "linear"}  # nobody looks at knn
    assert sweep_trial_spec.labels(sweep, Asked(0, point, (0,))) == {"method": "moco_v2", "temperature": "0.2"}


def test_another_base_is_another_sweep_with_what_the_file_says_of_it(folder: Path) -> None:
    sweep = load(folder, base=str(folder / "other.yaml"))
    assert (sweep.name, sweep.seeds, sweep.budget.trials) == ("s-other", (5,), 3)
    assert sweep.changes == ()  # `set` is for the file's own base
    assert load(folder, base="base.yaml").name == "s"


def test_set_changes_keys_of_the_sweep_and_params_of_the_base(folder: Path) -> None:
    sweep = load(folder, "seeds=[7]", "pretrain.params.epochs=9", "objectives.top-1.unit=s", "concurrency=1")
    assert (sweep.seeds, sweep.goals["top-1"].unit, sweep.concurrency) == ((7,), "s", 1)
    point = next(sweep_plan.probes(sweep))
    assert sweep_trial_spec.pipeline(sweep, point, [7]).arms[0].stages["pretrain"].params_json["epochs"] == 9


def test_set_gives_another_name_and_leaves_the_base_to_its_own_option(folder: Path) -> None:
    assert load(folder, "name=mine").name == "mine"
    assert load(folder, "name=mine", base=str(folder / "other.yaml")).name == "mine"
    for change in ("base=other.yaml", "with.other.seeds=[1]"):
        with pytest.raises(SpecError, match="`--set` does not change the base") as caught:
            load(folder, change)
        assert "--base" in caught.value.hint


def test_set_picks_among_named_points(folder: Path) -> None:
    text = SWEEP.replace("[0.1, 0.2]", "[0.1]").replace(
        "  pretrain.params.settings.temperature",
        "  size: {small: {pretrain.params.width: 2}, wide: {}}\n  pretrain.params.lr",
    )
    assert load(folder, "axes.size=[wide]", text=text).space[1].values == ("wide",)
    with pytest.raises(SpecError, match="this axis has no value called `wid`"):
        load(folder, "axes.size=[wid]")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("title:", "titel:", "titel: no key here is called `titel`"),
        ("base: base.yaml", "base: nobody", "no pipeline is called `nobody`"),
        ("[0.1, 0.2]", "[0.1, -1]", "axes.pretrain.params.settings.temperature: must be above 0"),
        ("settings.temperature", "settings.temprature", "axes.pretrain.params.settings.temprature: no param here"),
        ("pretrain.params.epochs: 3", "pretrain.params.epochs: x", "set.pretrain.params.epochs: expected a whole"),
        ("method: [leoclr, moco_v2]", "method: [leoclr, moco]", "axes.method: this axis has no value called `moco`"),
        ("metric: top1", "metric: top2", "objectives.top-1.metric: `linear` ends with no number called `top2`"),
        ("metric: top1", "metric: top*", "objectives.top-1.metric: `linear` ends with several numbers"),
        ("stage: linear", "stage: liner", "objectives.top-1.stage: the base has no stage called `liner`"),
        ("metric: top1", "metric: top1, direction: up", "objectives.top-1.direction: expected 'max' or 'min'"),
        ("  method: [leoclr, moco_v2]\n", "", "axes: the base `base` has an axis `method` that the sweep leaves"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "seeds: expected at least one seed, each once"),
        ("seeds: [0, 1]", "seeds: [0.5]", "seeds: expected whole numbers from 0"),
        ("seeds: [0, 1]", "search: greed", "search.kind: nothing here is called `greed`"),
        ("seeds: [0, 1]", "search: random", "budget: a search of kind random has no end of its own"),
        ("seeds: [0, 1]", "search: {kind: random, startup: 3}", "search.startup: no option here is called"),
        ("seeds: [0, 1]", "scheduler: {kind: pbt}", "scheduler: `interval` is missing"),
        ("seeds: [0, 1]", "scheduler: {kind: pbt, interval: 1}", "search.kind: a population begins with points by"),
        ("seeds: [0, 1]", "search: random\nscheduler: {kind: pbt, interval: 1}", "axes.method: a population moves"),
        ("seeds: [0, 1]", "scheduler: {kind: asha, reduction: 1}", "scheduler.reduction: expected more than 1"),
        ("seeds: [0, 1]", "concurrency: 0", "concurrency: expected a whole number from 1"),
        ("seeds: [0, 1]", "budget: {hours: 0}", "budget.hours: expected more than 0"),
        ("seeds: [0, 1]", "guards: {g: {stage: linear, metric: top1}}", "guards.g: `floor` is missing"),
        ("seeds: [0, 1]", "guards: {g: {stage: liner, metric: top1, floor: 1}}", "guards.g.stage: the base has no"),
        ("seeds: [0, 1]", "guards: {g: {stage: pretrain, metric: target_spread, floor: 1}}",
         "guards.g.metric: `pretrain` by `leoclr` records no number called `target_spread`"),
        ("value: 71.7", "value: high", "anchors.0.value: expected a number or `diverged`, got `high`"),
        ("at: {method: leoclr}", "at: {methd: leoclr}", "anchors.0.at.methd: no key here is called `methd`"),
        ("set: {pretrain", "set: {pretran", "set.pretran.params.epochs: no stage is called `pretran`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_at_its_place(folder: Path, old: str, new: str, said: str) -> None:
    if new.startswith("base: nobody"):
        with pytest.raises(NotFound, match=said):
            refused(folder, old, new)
        return
    assert refused(folder, old, new).startswith(f"s.yaml: {said}")


@pytest.mark.parametrize(
    ("scheduler", "every", "said"),
    [
        ("asha", 0, "metric: `pretrain` never records knn_top1, so nothing can be stopped early"),
        ("{kind: asha, metric: loss}", 1, "metric: `pretrain` ends with no number called `loss`"),
        ("{kind: median, metric: knn_top}", 1, "metric: `pretrain` ends with no number called `knn_top`"),
        (
            "{kind: asha, stage: linear, metric: top1}",
            1,
            "stage: `linear`, a linear stage, has no number before its end, so nothing can be stopped early",
        ),
        ("{kind: median, grace: 6}", 1, "grace: the first verdict, after 6 epochs, is no earlier than the end, 6"),
        ("asha", 6, "grace: the first verdict, after 6 epochs, is no earlier than the end, 6"),
    ],
)
def test_a_schedule_that_could_stop_nothing_is_refused(folder: Path, scheduler: str, every: int, said: str) -> None:
    changed = f"scheduler: {scheduler}\nset: {{pretrain.params.epochs: 6, pretrain.params.knn_every: {every}}}"
    assert refused(folder, "set: {pretrain.params.epochs: 3}", changed).startswith(f"s.yaml: scheduler.{said}")


NAMED = SWEEP.replace("[0.1, 0.2]", "[0.1, 0.2]\n  view: {whole: {}, small: {pretrain.params.image_size: 12}}")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        # A trial is known by its number, and numbers count through axes and names as they stand.
        ("{whole: {}, small: {pretrain.params.image_size: 12}}", "{small: {pretrain.params.image_size: 12}, whole: {}}",
         'order.view ["whole", "small"] -> ["small", "whole"]'),
        ("  method: [leoclr, moco_v2]\n  pretrain.params.settings.temperature: [0.1, 0.2]",
         "  pretrain.params.settings.temperature: [0.1, 0.2]\n  method: [leoclr, moco_v2]", "order.axes "),
    ],
)  # fmt: skip
def test_another_order_of_a_grid_is_another_question(folder: Path, old: str, new: str, said: str) -> None:
    assert old in NAMED
    before, after = (asked(load(folder, text=text)) for text in (NAMED, NAMED.replace(old, new)))
    assert any(each.startswith(said) for each in differences(before, after))


def test_what_the_base_says_of_a_later_value_is_part_of_the_question(folder: Path) -> None:
    before = asked(load(folder))
    (folder / "base.yaml").write_text(BASE.replace("moco_v2: {}", "moco_v2: {pretrain.params.lr: 0.07}"))
    (said,) = differences(before, asked(load(folder)))
    assert said.startswith("base.pretrain.lr ")
    assert "0.07" in said


def asked(sweep: SweepSpec) -> dict[str, Any]:
    probes = list(sweep_plan.probes(sweep))
    return sweep_plan.identity(sweep, "b", [sweep_trial_spec.pipeline(sweep, each, [0]) for each in probes])


@pytest.mark.parametrize("name", ["~no-such-user/x.yaml", "a" * 300 + ".yaml", "a" * 300 + ".yml"])
def test_what_is_no_path_is_told_at_its_place(folder: Path, name: str) -> None:
    with pytest.raises(NotFound, match="is not a path: ") as absent:
        sweep_spec.load(name)
    assert (absent.value.place, bool(absent.value.hint)) == ("sweep", True)
    said = refused(folder, "base: base.yaml", f"base: {name}")
    assert said.startswith("s.yaml: base: `")
    assert "is not a path: " in said
    with pytest.raises(SpecError, match="base: `.* is not a path: ") as caught:
        load(folder, "name=other", text=SWEEP.replace("base: base.yaml", f"base: {name}"))
    assert "leoclr-ops pipelines" in caught.value.hint


def test_no_sweep_of_that_name() -> None:
    with pytest.raises(NotFound) as caught:
        sweep_spec.load("ablation-augmnt")
    assert caught.value.hint == "did you mean `ablation-augment`?"
