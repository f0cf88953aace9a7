from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from leoclr.augment.fused import Recipe, color_fused, pack, render
from leoclr.augment.groups import Group, draw_groups
from leoclr.augment.rendering import Renderer
from leoclr.augment.views import View

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
KINDS = {
    "MoCo-v2": View(size=12),
    "SimCLR": View(size=12, jitter=(0.8, 0.8, 0.8, 0.2)),
    "every image solarized": View(size=12, solarize_p=1.0),
    "widest hue": View(size=12, jitter=(0.4, 0.4, 0.4, 0.5), jitter_p=1.0, gray_p=0),
    "no jitter": View(size=12, jitter_p=0),
    "no blur": View(size=12, blur_p=0),
    "blur as wide as the view": View(size=12, blur_p=1.0, blur_sigma=(3.0, 9.0)),
}


def crops(count: int, channels: int = 3) -> Tensor:
    levels = np.random.default_rng(0).integers(0, 256, (count, 12, 12, channels), dtype=np.uint8)
    return torch.from_numpy(levels).permute(0, 3, 1, 2)


def group(view: View, count: int, seed: int = 0) -> Group:
    (made,) = draw_groups((view,), seed=seed, epoch=0, indices=np.arange(count))
    return made


class Counting:
    """A compiler that keeps a graph as it is, and counts how many it was given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_form_has_the_numbers_of_single_operations(kind: str, channels: int) -> None:
    made, levels = group(KINDS[kind], 80), crops(80, channels)
    (plain_NCHW,) = Renderer(MEAN, STD, how="off")(made, levels.clone(), flip=True)
    recipe = Recipe.of(made, MEAN, STD)
    ours_NCHW = render(levels, pack(made.color(), made.flips(), recipe), recipe=recipe)
    same = torch.isclose(ours_NCHW, plain_NCHW, atol=1e-5, rtol=0)
    assert same.double().mean() > (0.999 if "solarized" in kind else 0.999999)  # a value may fall beside the threshold


@pytest.mark.slow
def test_any_draws_share_one_graph() -> None:
    counting = Counting()
    view = View(size=12)
    for seed in range(4):
        made, levels = group(view, 30, seed), crops(30)
        recipe = Recipe.of(made, MEAN, STD)
        ours_NCHW = color_fused(levels, made.color(), made.flips(), recipe, backend=counting)
        (plain_NCHW,) = Renderer(MEAN, STD, how="off")(made, levels.clone(), flip=True)
        torch.testing.assert_close(ours_NCHW, plain_NCHW, atol=1e-5, rtol=0)
    assert counting.graphs == 1


@pytest.mark.slow
def test_more_recipes_than_torch_compiles_of_one_function_are_all_compiled() -> None:
    torch.compiler.reset()
    counting = Counting()
    for sigma in range(1, 11):  # torch's limit is 8
        made, levels = group(View(size=12, blur_sigma=(0.1, sigma / 3)), 4), crops(4)
        color_fused(levels, made.color(), made.flips(), Recipe.of(made, MEAN, STD), backend=counting)
    assert counting.graphs == 10


def test_what_no_view_does_is_not_computed() -> None:
    bare = View(size=12, jitter=(0.0, 0.0, 0.0, 0.0), blur_p=0)
    recipe = Recipe.of(group(bare, 2), MEAN, STD)
    assert (recipe.jitters, recipe.radius, recipe.solarizes) == (False, 0, False)
    recipe = Recipe.of(group(View(size=12, solarize_p=0.1), 2), MEAN, STD)
    assert (recipe.jitters, recipe.radius, recipe.solarizes) == (True, 6, True)


@pytest.mark.slow
def test_compiled_for_this_machine_the_numbers_stay() -> None:
    made, levels = group(View(size=12, solarize_p=0.2), 40), crops(40)
    (plain_NCHW,) = Renderer(MEAN, STD, how="off")(made, levels.clone(), flip=True)
    ours_NCHW = color_fused(levels, made.color(), made.flips(), Recipe.of(made, MEAN, STD))
    assert torch.isclose(ours_NCHW, plain_NCHW, atol=1e-5, rtol=0).double().mean() > 0.999
