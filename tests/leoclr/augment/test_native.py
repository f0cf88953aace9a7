"""The machine code against torchvision, image by image, against single operations, and where it cannot be had."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from leoclr.augment import native
from leoclr.augment.color import apply_color, normalize
from leoclr.augment.groups import Group, draw_groups
from leoclr.augment.rendering import Renderer
from leoclr.augment.views import View

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
KINDS = {
    "MoCo-v2": View(size=24),
    "SimCLR": View(size=24, jitter=(0.8, 0.8, 0.8, 0.2), jitter_p=1.0),
    "every second image solarized": View(size=24, solarize_p=0.5, solarize_threshold=0.3),
    "widest hue": View(size=24, jitter=(0.4, 0.4, 0.4, 0.5), jitter_p=1.0, gray_p=0),
    "no jitter": View(size=24, jitter_p=0),
    "no blur": View(size=24, blur_p=0),
    "blur as wide as the view": View(size=24, blur_p=1.0, blur_sigma=(3.0, 9.0)),
    "nothing": View(size=24, jitter_p=0, gray_p=0, blur_p=0, flip_p=0),
}
there = any(map(shutil.which, ("cc", "gcc", "clang"))) or "CC" in os.environ
needs_compiler = pytest.mark.skipif(not there, reason="no C compiler")


def crops(count: int, side: int) -> Tensor:
    """Noise, and pictures with gray, pure, and equal channels."""
    levels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    levels[0] = 128
    levels[1, ..., 1:] = 0
    levels[2] = 0
    levels[3, ..., :2] = 255
    return torch.from_numpy(levels).permute(0, 3, 1, 2)


def group(view: View, count: int) -> Group:
    (made,) = draw_groups((view,), seed=1, epoch=0, indices=np.arange(count))
    return made


def colored(made: Group, levels_N3HW: Tensor, *, normalized: bool = False) -> Tensor:
    scale = (MEAN, STD) if normalized else None
    return native.color_native(levels_N3HW, made.color(), made.flips(), radius=made.radius, scale=scale)


@needs_compiler
@pytest.mark.parametrize("side", [24, 33, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_numbers_of_single_operations(kind: str, side: int) -> None:
    made, levels_N3HW = group(replace(KINDS[kind], size=side), 60), crops(60, side)
    before_N3HW = levels_N3HW.clone()
    flipped_N3HW = torch.where(made.flips()[:, None, None, None], levels_N3HW.flip(-1), levels_N3HW) / 255
    plain_N3HW = apply_color(flipped_N3HW, made.color(), radius=made.radius)
    same_N3HW = torch.isclose(colored(made, levels_N3HW), plain_N3HW, atol=3e-6, rtol=0)
    assert same_N3HW.double().mean() > (0.999 if "solarized" in kind else 0.9999999)  # beside the threshold values jump
    assert torch.equal(levels_N3HW, before_N3HW)


@needs_compiler
def test_it_has_torchvisions_numbers_image_by_image() -> None:
    """On average within .003 of a level, at most .01."""
    made, levels_N3HW = group(View(size=40, blur_sigma=(0.5, 2.0)), 60), crops(60, 40)
    color, expected = made.color(), []
    operations = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for at, image_3HW in enumerate(levels_N3HW / 255):
        image_3HW = tv.horizontal_flip(image_3HW) if made.flips()[at] else image_3HW
        for kind in color.order_NJ[at].tolist():
            image_3HW = operations[kind](image_3HW, color.factors_NJ[at, kind].item())
        image_3HW = tv.rgb_to_grayscale(image_3HW, 3) if color.gray_N[at] else image_3HW
        if sigma := color.sigma_N[at].item():
            image_3HW = tv.gaussian_blur(image_3HW, [13, 13], [sigma, sigma])
        expected.append(tv.normalize(image_3HW, list(MEAN), list(STD)))
    apart_N3HW = (colored(made, levels_N3HW, normalized=True) - torch.stack(expected)).abs() * 255 * min(STD)
    assert apart_N3HW.mean() < 0.003 and apart_N3HW.max() < 0.01


@needs_compiler
def test_floats_give_what_bytes_give() -> None:
    made, levels_N3HW = group(View(size=24), 20), crops(20, 24)
    assert torch.equal(colored(made, levels_N3HW), colored(made, levels_N3HW.float()))


@needs_compiler
def test_it_normalizes_as_single_operations_do() -> None:
    made, levels_N3HW = group(View(size=24), 20), crops(20, 24)
    expected_N3HW = normalize(colored(made, levels_N3HW), MEAN, STD)
    torch.testing.assert_close(colored(made, levels_N3HW, normalized=True), expected_N3HW, atol=1e-6, rtol=0)


@needs_compiler
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_and_the_rest_of_a_batch_move_no_number(threads: int) -> None:
    made, levels_N3HW = group(View(size=24), 20), crops(20, 24)
    before, whole_N3HW = torch.get_num_threads(), colored(made, levels_N3HW)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(colored(made, levels_N3HW), whole_N3HW)
    finally:
        torch.set_num_threads(before)
    part = slice(5, 11)
    alone_N3HW = native.color_native(
        levels_N3HW[part], made.color().part(part), made.flips()[part], radius=made.radius, scale=None
    )
    assert torch.equal(alone_N3HW, whole_N3HW[part])
    assert colored(group(View(size=24), 0), levels_N3HW[:0]).shape == (0, 3, 24, 24)


@pytest.fixture
def nothing_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache; what is compiled in it is forgotten after the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native._machine_code.cache_clear()
    yield tmp_path / "leoclr-ops" / "machine-code"
    native._machine_code.cache_clear()


@needs_compiler
def test_it_is_compiled_once_for_all_processes(nothing_compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.ready()
    (library,) = nothing_compiled.iterdir()
    native._machine_code.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native.ready()
    assert list(nothing_compiled.iterdir()) == [library]


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("PATH", "", "there is no C compiler"),
        ("CC", "no-such-compiler", "no-such-compiler"),
        ("CC", "sh -c 'echo it broke >&2; exit 1'", "it broke"),
        ("XDG_CACHE_HOME", "/dev/null", "Not a directory"),
    ],
)
def test_without_a_compiler_views_are_made_all_the_same_and_a_warning_says_why(
    nothing_compiled: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str
) -> None:
    if variable == "PATH":
        monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv(variable, value)
    made, levels_N3HW = group(View(size=24), 4), crops(4, 24)
    with pytest.warns(UserWarning, match=reason) as warned:
        (first_NCHW,), (second_NCHW,) = (Renderer(MEAN, STD)(made, levels_N3HW, flip=True) for _ in range(2))
    assert len(warned) == 1
    (plain_NCHW,) = Renderer(MEAN, STD, how="off")(made, levels_N3HW, flip=True)
    assert torch.equal(first_NCHW, plain_NCHW) and torch.equal(second_NCHW, plain_NCHW)
