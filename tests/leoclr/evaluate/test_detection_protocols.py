"""The protocols' numbers against what the configuration files of MoCo and detectron2 say, read by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest

from leoclr.evaluate.detection_protocols import MoCoCoco, MoCoVoc, Small


def test_the_rate_warms_up_and_falls_by_tenths() -> None:
    recipe = MoCoVoc()
    rates = [recipe.rate(step) for step in (0, 50, 99, 100, 17_999, 18_000, 21_999, 22_000, 23_999)]
    assert rates == pytest.approx([2e-5, 0.01001, 0.0198002, 0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])
    recipe = MoCoCoco()
    rates = [recipe.rate(step) for step in (0, 500, 1000, 119_999, 120_000, 160_000)]
    assert rates == pytest.approx([2e-5, 0.01001, 0.02, 0.02, 0.002, 0.0002])


def test_sides_and_scores_are_the_data_sets() -> None:
    assert MoCoVoc().train_sides == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    assert MoCoCoco().train_sides == (640, 672, 704, 736, 768, 800)
    assert (MoCoVoc().score, MoCoCoco().score, Small().score) == ("voc07", "coco", "voc07")
    assert (MoCoVoc().batch * MoCoVoc().iterations, MoCoCoco().batch * MoCoCoco().iterations) == (384_000, 2_880_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("warmup", -1),
        ("flip_p", 1.1),
        ("train_sides", ()),
        ("milestones", (5, 5)),
        ("max_side", 0),
        ("score", "voc08"),
    ],
)
@pytest.mark.parametrize("protocol", [MoCoVoc, MoCoCoco, Small])
def test_settings_name_the_field_that_is_wrong(protocol: type[MoCoVoc], field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        protocol(**{field: value})  # type: ignore[arg-type]  # wrong on purpose


def test_a_plan_asks_for_settings_without_loading_torchvision() -> None:
    code = "import jobs.detection, sys; jobs.detection.params_type({}); sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
