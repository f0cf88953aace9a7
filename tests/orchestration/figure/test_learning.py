"""Curves are means over seeds, and their SVG stands in a page beside others, in its colors."""

from __future__ import annotations

import math
import re
import statistics
import xml.etree.ElementTree as ElementTree

from orchestration.figure.inline import inline
from orchestration.figure.learning import BINS, Curve, curve, learning

EVIL = '<b title="x">&'


def test_a_curve_is_the_mean_and_deviation_of_its_runs_at_each_step() -> None:
    runs = [[(step, seed + 10.0 / step) for step in range(1, 41)] for seed in (0.0, 1.0, 4.0)]
    found = curve("LeOCLR", 0, runs)
    assert found
    assert found.steps == tuple(range(1, 41))
    for i, step in enumerate(range(1, 41)):
        values = [seed + 10.0 / step for seed in (0.0, 1.0, 4.0)]
        assert math.isclose(found.means[i], statistics.fmean(values))
        assert math.isclose(found.stds[i], statistics.stdev(values))


def test_many_steps_are_averaged_and_no_last_bin_holds_one_alone() -> None:
    found = curve("", 0, [[(step, float(step)) for step in range(1, 373)]])
    assert found
    assert len(found.steps) == BINS
    assert all(math.isclose(mean, step) for mean, step in zip(found.means, found.steps, strict=True))
    assert found.means[-1] < 372 - 1


def test_numbers_that_are_none_are_left_out() -> None:
    assert curve("", 0, [[(1, math.nan), (2, math.inf)], []]) is None
    found = curve("", 0, [[(1, 1.0), (2, math.nan), (3, 3.0)]])
    assert found
    assert found.means == (1.0, 3.0)
    assert found.stds == (0.0, 0.0)


def drawn(prefix: str, title: str = EVIL) -> str:
    lines = [Curve(EVIL, i, (1.0, 2.0), (i + 1.0, i + 2.0), (0.1, 0.1), 2) for i in range(2)]
    return inline(learning(lines, name="loss", title=title, y=EVIL), prefix)


def test_ids_are_the_figures_own_and_all_references_resolve() -> None:
    text = drawn("a")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert all(each.startswith("a-") for each in ids)
    wanted = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert {one or other for one, other in wanted} <= set(ids)
    assert wanted
    assert not set(ids) & set(re.findall(r'\bid="([^"]+)"', drawn("b")))


def test_the_svg_is_named_and_escaped_and_has_no_style_for_others() -> None:
    root = ElementTree.fromstring(drawn("a"))
    assert root.get("role") == "img"
    assert root[0].text == EVIL
    assert root[1].text == f"{EVIL} over the steps: {EVIL} from 1 to 2; {EVIL} from 2 to 3."
    tags = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert not tags & {"style", "script", "image", "metadata", "b"}


def test_colors_follow_the_page() -> None:
    text = drawn("a")
    assert "var(--f-004488, #004488)" in text
    assert not re.findall(r"(?<!, )#[0-9a-f]{6}", text)
    assert "DejaVu" not in text
