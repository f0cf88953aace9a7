"""The texts of sweeps: numbers equal statistics', nothing missing goes unsaid, no result leaves a traceback."""

from __future__ import annotations

import csv
import io
import re
import statistics
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.sweep import page as sweep_page
from orchestration.sweep import table as sweep_table
from orchestration.sweep.result import Anchor, Axis, Objective, SweepResult, Trial
from tests.made_up_sweeps import TOP1, augment, conditional, data_sets, factorial, momentum, search, shares, trial
from tests.orchestration.sweep.calls import calls

WORDS = st.text(max_size=12)
NAMES = st.sampled_from(["lr", "method", "dataset", "a.b.momentum", "tau $", "Gr\u00f6\u00dfe | \u6e29\u5ea6"])
VALUES = st.one_of(st.floats(), st.integers(), WORDS, st.booleans(), st.lists(st.floats(0, 1), max_size=2))


@st.composite
def results(draw: st.DrawFn) -> SweepResult:
    """Any sweep: empty, all diverged, labels in any script, numbers of any size, axes that do not apply."""
    names = draw(st.lists(NAMES, max_size=3, unique=True))
    axes = tuple(
        Axis(
            name,
            draw(st.none() | st.lists(VALUES, max_size=3).map(tuple)),
            draw(st.sampled_from(["category", "linear", "log"])),
        )
        for name in names
    )
    goals = tuple(
        Objective(title, "linear", "top1", draw(st.sampled_from(["max", "min"])), draw(st.sampled_from(["%", "", "s"])))
        for title in draw(st.lists(WORDS, max_size=2, unique=True))
    )
    titles = [goal.title for goal in goals]
    points = [
        draw(st.dictionaries(st.sampled_from(names), VALUES)) if names else {} for _ in range(draw(st.integers(0, 6)))
    ]
    trials = tuple(
        Trial(
            number,
            point,
            {name: draw(WORDS) for name in point if draw(st.booleans())},
            draw(st.none() | st.integers(0, 2)),
            draw(st.sampled_from(["done", "done", "stopped", "failed", "diverged", "running", "waiting"])),
            draw(WORDS),
            draw(st.none() | st.just("ab" * 16)),
            draw(st.dictionaries(st.sampled_from(titles), st.floats())) if titles else {},
            ((3, draw(st.floats())),) if draw(st.booleans()) else (),
            draw(st.floats(0, 1e6)),
        )
        for number, point in enumerate(points)
    )
    anchors = tuple(
        Anchor({name: draw(WORDS)}, draw(st.sampled_from(titles)), draw(st.floats()), draw(WORDS))
        for name in names
        if titles
    )
    search = draw(st.sampled_from(["grid", "random", "optuna"]))
    return SweepResult(draw(WORDS), draw(WORDS), axes, goals, anchors, trials, search)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(results())
def test_any_sweep_has_a_table(result: SweepResult) -> None:
    page = sweep_table.markdown(result)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in page.split("\n") if line.startswith("|")]
    blocks = re.findall(r"(?:^\|.*\n?)+", page, flags=re.MULTILINE)
    assert len(widths) == sum(block.strip("\n").count("\n") + 1 for block in blocks)
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.strip("\n").split("\n")}) == 1
    assert all(character.isprintable() or character == "\n" for character in page + sweep_table.text(result))
    rows = list(csv.reader(io.StringIO(sweep_table.csv(result))))
    assert len(rows) == len(result.trials) + 1
    assert len({len(row) for row in rows}) == 1


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_numbers_of_the_table_are_those_of_statistics(values: list[float]) -> None:
    first = momentum().trials[2]
    trials = tuple(replace(first, number=i, seed=i, values={TOP1.title: value}) for i, value in enumerate(values))
    line = sweep_table.text(replace(momentum(), anchors=(), trials=trials)).split("\n")[5]
    expected = f"{statistics.mean(values):.1f}"
    if len(values) > 1:
        expected += f" +- {statistics.stdev(values):.1f}"
    assert line.split("  ")[-2:] == [expected, str(len(values))] or line.endswith(f"{expected}  {len(values)}")


def test_the_ablation_reads_as_a_paper_has_it() -> None:
    said = sweep_table.text(augment())
    rows = {tuple(line.split()[:-1]): line for line in said.split("\n")}
    leoclr = next(line for key, line in rows.items() if key[:3] == ("crop", "only", "leoclr"))
    assert re.search(r"81\.\d \+- 0\.\d  3 +-8\.\d \+- \d\.\d +46\.6 \[1\]$", leoclr)
    assert "[2] failed: out of memory (trial 11 seed 2 run 0000000b)." in said
    assert "24 trials" not in said
    assert "18 trials: 17 done, 1 failed" in said
    assert "Change: from `baseline` at the same method, paired by seed" in said


def test_a_divergence_is_a_result_with_its_reason() -> None:
    said = sweep_table.text(momentum())
    assert re.search(r"^0 +diverged \[1\]  0", said, flags=re.MULTILINE)
    assert "diverged: the loss is not finite (trial 0 seed 0 run 00000000, trial 1 seed 1 run 00000001)" in said
    assert "momentum of the slow encoder 0.9999: 58.9" in said


def test_bold_is_the_best_outside_the_noise_and_nothing_else() -> None:
    assert re.findall(r"\*\*(.+?)\*\*", sweep_table.markdown(momentum())) == ["86.5 &plusmn; 0.7"]
    noisy = replace(
        momentum(),
        trials=tuple(
            replace(t, values={k: v - 9.0 * t.seed * (t.number > 5) for k, v in t.values.items()})
            for t in momentum().trials
            if t.seed is not None
        ),
    )
    assert "**" not in sweep_table.markdown(noisy)


def test_a_trial_that_was_cut_off_is_not_one_that_never_began() -> None:
    trials = augment().trials
    cut = replace(trials[0], state="waiting", seed=9), replace(trials[6], state="waiting", seed=9, run_id=None)
    said = sweep_table.markdown(replace(augment(), trials=(*cut, *trials)))
    assert said.count("not finished (") == said.count("not started (") == 1


def test_an_axis_that_no_ended_trial_varies_is_left_out_for_that_reason() -> None:
    result = search(24)
    crops = [("[0.8, 1]", "done"), ("[0.2, 1]", "stopped")]
    trials = tuple(
        replace(each, state=state, labels={**each.labels, "crop": crop}, point={**each.point, "crop": crop})
        for number, each in enumerate(result.trials)
        for crop, state in crops[number % 7 == 0 : 1 + (number % 7 == 0)]
    )
    axes = (*result.axes, Axis("crop", tuple(crop for crop, _ in crops), "category"))
    said = sweep_table.text(replace(result, axes=axes, trials=trials))
    assert "Left out, since those trials do not all have it, or all at one value: crop" in said


def test_changes_are_told_from_the_baseline_that_there_is() -> None:
    said = sweep_table.markdown(conditional())
    assert said.count("baseline |") == 1
    assert "Change: from \\`none\\`." in said
    assert "+3.0" in said


def test_a_point_that_a_search_names_twice_is_no_proof() -> None:
    points = [{"crop": "small"}, {"crop": "large"}, {"crop": "small"}, {"crop": "large"}]
    values = (90.1, 80.0, 90.1, 80.0)  # the second two are the runs of the first two
    trials = tuple(trial(i, point, values=value) for i, (point, value) in enumerate(zip(points, values, strict=True)))
    said = sweep_table.text(replace(search(), axes=(Axis("crop", ("small", "large"), "category"),), trials=trials))
    assert re.search(r"^small +90\.1  1 ", said, flags=re.MULTILINE)
    assert "+- 0.0" not in said
    assert "90.1*" not in said


def grid(points: int, tried: int) -> SweepResult:
    """Return a grid of two axes, `tried` of its points over two seeds, every third trial failed for its own reason."""
    names = tuple(f"v{i}" for i in range(points // 5))
    shown = [{"crop": name, "size": size} for name in names for size in (1, 2, 3, 4, 5)][::-1]
    trials = tuple(
        trial(2 * i + seed, point, seed=seed, state="failed" if i % 3 == 0 else "done", values=50.0 + i, reason=f"{i}")
        for i, point in enumerate(shown[:tried])
        for seed in range(2)
    )
    axes = (Axis("crop", names, "category"), Axis("size", (1, 2, 3, 4, 5), "linear"))
    return replace(augment(), axes=axes, trials=trials, anchors=())


@pytest.mark.parametrize("tried", [1.0, 0.4])
def test_the_work_of_a_page_grows_as_its_points(tried: float) -> None:
    sweep_table.markdown(grid(10, 10))  # imports
    few, many = (calls(partial(sweep_table.markdown, grid(n, int(n * tried)))) for n in (50, 200))
    assert many < 4.5 * few


@pytest.mark.parametrize("goals", [1, 2])
def test_the_work_of_a_search_grows_as_its_trials(goals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_page, "importance", lambda *_: "not asked for")
    few, many = (calls(partial(sweep_table.markdown, search(n, goals=goals))) for n in (100, 400))
    assert many < 4.5 * few


def test_data_sets_have_tables_of_their_own() -> None:
    page = sweep_table.markdown(data_sets())
    assert "## ResNet-18: stl10" in page
    assert "## ResNet-18: cifar10" in page
    assert "Main effects" not in page


def test_main_effects_say_which_cells_are_missing() -> None:
    said = sweep_table.text(factorial())
    assert "Main effects on linear top-1" in said
    assert "3 of 4" in said
    assert "averaged over different cells" in said


@pytest.mark.parametrize("n", [3, 28])
def test_a_search_shows_its_best_first_and_how_axes_matter(n: int) -> None:
    said = sweep_table.text(search(n, goals=2))
    top = [float(line.split()[3]) for line in said.split("\n") if re.match(r"0\.\d+ +0\.\d+ +(small|large) ", line)]
    listed = top[: min(n, 25)]
    assert listed == sorted(listed, reverse=True)
    assert ("Not computed: 3 trials" in said) == (n == 3)
    assert ("more points are in the CSV file" in said) == (n == 28)
    assert "Pareto front" in said


def test_the_csv_has_every_trial_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(sweep_table.csv(search()))))
    trials = search().trials
    assert [float(row["temperature"]) for row in rows] == [trial.point["temperature"] for trial in trials]
    assert [row["linear top-1"] for row in rows] == [
        repr(trial.values[TOP1.title]) if trial.values else "" for trial in trials
    ]
    assert {row["state"] for row in rows} == {"done", "stopped"}


def test_a_label_cannot_break_out_of_its_cell() -> None:
    first = shares().trials[0]
    nasty = replace(first, labels={"method": "a|b\n# c <script> [x](y)"}, point={"method": 1})
    page = sweep_table.markdown(replace(shares(), trials=(nasty, shares().trials[1])))
    assert r"a\|b \# c \<script\> \[x\](y)" in page
