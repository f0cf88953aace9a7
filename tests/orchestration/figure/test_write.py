"""Which figures a sweep asks for, that files are legible, repeat to the byte and leave Matplotlib as it was."""

from __future__ import annotations

import math
import warnings
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

from orchestration.figure import write as figure
from orchestration.figure.style import COLUMN, DPI, PAGE
from orchestration.figure.write import pictures
from orchestration.sweep.result import Axis, SweepResult
from tests.made_up_sweeps import METHOD, TOP1, augment, data_sets, factorial, momentum, search, shares, trial

POINTS = [(size, rate) for size in (64, 256) for rate in (0.1, 0.2, 0.3)]


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (augment(), ["bars"]),
        (momentum(), ["curve"]),
        (shares(), ["curve"]),
        (factorial(), ["effects"]),
        (data_sets(), ["bars-stl10", "bars-cifar10"]),
        (search(6), ["parallel", "progress"]),
    ],
    ids=lambda value: value.name if isinstance(value, SweepResult) else "",
)
def test_a_sweep_asks_for_its_figures(result: SweepResult, names: list[str]) -> None:
    drawn = list(pictures(result))
    assert [picture.name for picture in drawn] == names
    assert all(len(picture.caption) > 40 for picture in drawn)


def test_two_objectives_have_a_pareto_front_beside_their_own_figures() -> None:
    names = [picture.name for picture in pictures(search(6, goals=2))]
    assert names == ["parallel-linear-top-1", "progress-linear-top-1", "parallel-time", "progress-time", "pareto"]


def test_files_have_print_size_and_text_and_repeat_to_the_byte(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    first = figure.write(augment(), tmp_path / "a")
    again = figure.write(augment(), tmp_path / "b")
    assert [path.name for path in first] == ["bars.png", "bars.svg", "figures.md"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert dict(matplotlib.rcParams) == before
    with Image.open(first[0]) as image:
        assert image.width == round(PAGE * DPI)
        assert "crop only" in image.text["Description"]  # type: ignore[attr-defined]  # of PNG images
    texts = [node.text for node in ElementTree.parse(first[1]).iter("{http://www.w3.org/2000/svg}text")]
    assert {"no color", "augmentation", "(a) this sweep", "not published"} <= set(texts)
    assert "![" in first[2].read_text()


def test_bars_are_the_paired_changes_from_the_baseline() -> None:
    (picture,) = pictures(augment())
    panel = picture.figure.axes[0]
    heights = sorted(patch.get_height() for patch in panel.patches)
    by_point = {(*t.labels.values(), t.seed): t.values.get(TOP1.title) for t in augment().trials}
    expected = []
    for label in ("no color", "crop only"):
        for method in ("leoclr", "moco_v2"):
            pairs = [(by_point[label, method, s], by_point["baseline", method, s]) for s in range(3)]
            known = [a - b for a, b in pairs if a is not None and b is not None]
            expected.append(math.fsum(known) / len(known))
    assert heights == pytest.approx(sorted(expected))
    assert [round(patch.get_height(), 1) for patch in picture.figure.axes[1].patches] == [-25.1, -28.0]


def test_a_curve_has_the_published_one_on_an_axis_of_its_own_and_says_what_diverged() -> None:
    (picture,) = pictures(momentum())
    ours, theirs = picture.figure.axes
    assert list(ours.get_lines()[0].get_ydata())[1:4] == [80.5, 84.5, 86.5]
    assert list(theirs.get_lines()[0].get_ydata())[1:] == [55.2, 57.8, 59.0, 58.9]
    assert ours.get_ylim()[0] > theirs.get_ylim()[1]
    assert [text.get_text() for text in picture.figure.legends[0].get_texts()] == ["diverged"]
    for panel in (ours, theirs):  # in both at m = 0, which is the first place
        assert [list(line.get_xdata()) for line in panel.get_lines() if line.get_marker() == "x"] == [[0.0]]
    assert [tick.get_text() for tick in ours.get_xticklabels()] == ["0", "0.9", "0.99", "0.999", "0.9999"]
    assert "evenly spaced" in ours.get_xlabel()
    assert "0 diverged" in picture.caption


def test_two_axes_of_numbers_have_a_curve_each() -> None:
    grid = [trial(i, {"queue_size": q, "lr": r}, seed=0, values=80.0 + i) for i, (q, r) in enumerate(POINTS)]
    axes = (Axis("queue_size", (64, 256), "linear"), Axis("lr", (0.1, 0.2, 0.3), "linear"))
    drawn = list(pictures(SweepResult("two", "Two", axes, (TOP1,), (), tuple(grid), "grid")))
    assert [picture.name for picture in drawn] == ["curve-keys-in-the-queue", "curve-learning-rate"]
    assert [len(picture.figure.axes[0].get_lines()) for picture in drawn] == [3, 2]


def test_bars_tell_the_values_that_changes_start_from() -> None:
    (picture,) = pictures(augment())
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "leoclr, baseline 90.7 \u00b1 0.7 %, published 71.7 %",
        "moco_v2, baseline 85.6 \u00b1 0.5 %, published 67.5 %",
    ]


def test_shares_of_labels_become_a_logarithmic_axis() -> None:
    (picture,) = pictures(shares())
    panel = picture.figure.axes[0]
    assert panel.get_xscale() == "log"
    assert [list(line.get_xdata()) for line in panel.get_lines()] == [[1.0, 10.0, 100.0]] * 2
    assert picture.figure.get_figwidth() == COLUMN


def test_a_sweep_without_a_number_has_no_figures(tmp_path: Path) -> None:
    lost = tuple(replace(t, state="diverged", values={}, reason="nan") for t in augment().trials)
    assert figure.write(replace(augment(), trials=lost), tmp_path) == []
    assert figure.write(replace(augment(), trials=()), tmp_path) == []


@pytest.mark.parametrize("result", [augment(), momentum(), factorial(), search(5, goals=2)], ids=lambda r: r.name)
def test_odd_labels_and_sizes_are_drawn_without_a_warning(result: SweepResult, tmp_path: Path) -> None:
    odd = ["$x_{$", "\u6e29\u5ea6", "a" * 90, "<&>\n\t", "", "\u2212\\alpha"]
    trials = tuple(
        replace(
            t,
            labels={name: f"{label}{odd[len(label) % len(odd)]}" for name, label in t.labels.items()},
            values={title: value * 1e300 if t.number == 1 else value * 1e9 for title, value in t.values.items()},
            seed=None,
        )
        for t in result.trials
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figure.write(replace(result, title="$\n\u6e29", trials=trials), tmp_path)


@pytest.mark.parametrize("result", [augment(), momentum(), shares(), search(5)], ids=lambda r: r.name)
def test_one_trial_is_enough_for_no_traceback(result: SweepResult, tmp_path: Path) -> None:
    known = [trial for trial in result.trials if trial.values]
    figure.write(replace(result, trials=tuple(known[:1])), tmp_path)


@pytest.mark.parametrize("names", [("no prototypes", "contrast at 0.1"), ("baseline", "no color"), ("a", "b")])
def test_labels_of_bars_do_not_touch(names: tuple[str, ...]) -> None:
    found = [f"{name} {i}" for name in names for i in range(4)]
    axis = Axis("losses", tuple(found), "category")
    trials = tuple(trial(i, {"losses": name}, seed=0, values=80.0 + i) for i, name in enumerate(found))
    (picture,) = pictures(SweepResult("s", "S", (axis,), (TOP1,), (), trials, "grid"))
    picture.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in picture.figure.axes[0].get_xticklabels()]
    assert len(boxes) == len(found) - 1
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_legend_stays_within_its_figure() -> None:
    """Two methods with their baselines are wider than a column of a paper: they stand below each other."""
    result = augment()
    alone = replace(result, anchors=(), trials=tuple(each for each in result.trials if each.seed == 0))
    (picture,) = pictures(alone)
    picture.figure.draw_without_rendering()
    (legend,) = picture.figure.legends
    extent = legend.get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= picture.figure.bbox.width


def test_an_axis_that_a_method_does_not_have_is_no_matter_of_what_was_published() -> None:
    axes = (METHOD, Axis("original", ("whole", "crop", "both"), "category"))
    points = [{"method": "leoclr", "original": each} for each in ("whole", "crop", "both")] + [{"method": "moco_v2"}]
    trials = tuple(trial(i, point, seed=0, values=80.0 + i) for i, point in enumerate(points))
    (picture,) = pictures(SweepResult("s", "S", axes, (TOP1,), (), trials, "grid"))
    words = [text.get_text() for text in picture.figure.axes[0].texts]
    assert "not published" not in words
    assert words.count("does not apply") == 2


def test_a_mark_means_one_thing_in_both_panels_of_a_curve() -> None:
    result, states = momentum(), {"0": "failed", "0.9": "diverged"}
    trials = [replace(each, state=states.get(each.labels["momentum"], "done")) for each in result.trials]
    (picture,) = pictures(replace(result, trials=tuple(trials)))
    (legend,) = picture.figure.legends
    marks = {text.get_text(): line.get_marker() for text, line in zip(legend.texts, legend.get_lines(), strict=True)}
    assert marks["failed"] != marks["diverged"]
    published = [line for line in picture.figure.axes[1].get_lines() if line.get_label() == "_missing"]
    assert {line.get_marker() for line in published} == {marks["diverged"]}
