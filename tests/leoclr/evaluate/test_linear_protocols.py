"""The published rates, worked out by hand and by the formulas of the sources; and what settings refuse."""

from __future__ import annotations

import math

import pytest

from leoclr.evaluate.linear_protocols import BYOL, CLSA, LBFGS, LinearSettings, MoCo, SimCLR


def test_mocos_rate_falls_by_a_tenth_at_60_and_80() -> None:
    rates = [MoCo().rate(30.0, epoch, batch=256) for epoch in (0, 59, 60, 79, 80, 99)]
    assert rates == pytest.approx([30, 30, 3, 3, 0.3, 0.3])


def test_clsas_rate_goes_from_10_to_a_hundredth() -> None:
    for epoch in (0, 37, 99):  # lincls.py, adjust_learning_rate
        expected = 0.5 * (1.0 + math.cos(math.pi * epoch / 100)) * (10 - 0.01) + 0.01
        assert CLSA().rate(10.0, epoch, batch=256) == pytest.approx(expected)


@pytest.mark.parametrize(("settings", "base", "start"), [(SimCLR(), 0.1, 1.6), (BYOL(), 0.2, 0.8)])
def test_rates_that_scale_with_the_batch_fall_along_a_cosine_of_steps(
    settings: LinearSettings, base: float, start: float
) -> None:
    steps = 312
    for step in (0, 1000, 12_345):  # TensorFlow's cosine_decay, as both repositories call it
        expected = start * 0.5 * (1 + math.cos(math.pi * step / (settings.epochs * steps)))
        assert settings.rate(base, step / steps, batch=settings.batch) == pytest.approx(expected)
    assert settings.rate(base, 0, batch=settings.batch // 2) == pytest.approx(start / 2)


def test_the_45_penalties_are_evenly_spaced_in_the_logarithm_strongest_first() -> None:
    exponents = [math.log10(value) for value in LBFGS().l2]
    assert exponents == pytest.approx([5 - 0.25 * i for i in range(45)])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("lrs", ()),
        ("lrs", (0.1, -1.0)),
        ("lrs", (0.1, 0.1)),
        ("lr_images", 0),
        ("flip_p", 2.0),
        ("crop_scale", (0.5, 0.2)),
        ("milestones", (80, 60)),
        ("final_lr", 30.0),
        ("valid_images", 0),
    ],
)
def test_settings_name_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        LinearSettings(**{field: value})  # type: ignore[arg-type]  # wrong on purpose


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="^nesterov: "):
        LinearSettings(nesterov=True, momentum=0.0)


@pytest.mark.parametrize(
    ("field", "value"), [("l2_range", (1.0, 0.1)), ("l2_range", (0.0, 1.0)), ("l2_count", 0), ("valid_images", -1)]
)
def test_settings_of_lbfgs_name_the_field_that_is_wrong(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        LBFGS(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
