from typing import Any

import pytest

from leoclr.augment.views import TestView, View


@pytest.mark.parametrize("size", [0, 33])
def test_a_test_view_larger_than_its_image_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size: "):
        TestView(resize=32, size=size)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crop", "corner"),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.5, 1.1)),
        ("crop_seed", -1),
        ("interpolation", "nearest"),
    ],
)
def test_a_test_view_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        TestView(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("crop_scale", (0.5, 0.2)),
        ("crop_ratio", (0.0, 1.0)),
        ("jitter", (0.4, -0.1, 0.4, 0.1)),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("jitter_p", 1.1),
        ("gray_p", -0.1),
        ("blur_p", 2.0),
        ("blur_sigma", (0.0, 2.0)),
        ("flip_p", -1.0),
        ("solarize_p", 1.5),
        ("solarize_threshold", 128.0),
        ("strong", "fixmatch"),
        ("strong_picks", 0),
        ("strong_p", 1.5),
    ],
)
def test_a_view_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        View(**{"size": 8} | {field: value})
