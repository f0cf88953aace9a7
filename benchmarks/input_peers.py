"""How others make views: by Pillow, image for image, and by kornia, batch for batch.

N images, C channels, H x W pixels.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision import transforms

from leoclr.augment.views import View

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # main_moco.py; ImageNet's


class GaussianBlur:
    """moco/loader.py, class GaussianBlur."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, x: Image.Image) -> Image.Image:
        """Blur by a radius that is drawn."""
        sigma = random.uniform(self.sigma[0], self.sigma[1])
        return x.filter(ImageFilter.GaussianBlur(radius=sigma))


class Moco:
    """The views of facebookresearch/moco with `--aug-plus`; a view of the whole image is resized instead of cropped.

    Source: https://github.com/facebookresearch/moco/blob/4397a04ed63a95c4a157f017a71883944003b615/main_moco.py, the
    list `augmentation`, and moco/loader.py. An image is decoded once for all views, as TwoCropsTransform gets it.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self._transforms = [self._transform(view) for view in views]

    def from_files(self, paths: Iterable[Path]) -> list[list[Tensor]]:
        """Return the views of image files, as torchvision/datasets/folder.py, pil_loader reads them."""
        made = []
        for path in paths:
            with path.open("rb") as file, Image.open(file) as image:
                made.append(self._views(image.convert("RGB")))
        return made

    def from_stack(self, images: Iterable[Any]) -> list[list[Tensor]]:
        """Return the views of arrays in memory, as torchvision/datasets/cifar.py reads them."""
        return [self._views(Image.fromarray(image)) for image in images]

    def _views(self, image: Image.Image) -> list[Tensor]:
        return [transform(image) for transform in self._transforms]

    def _transform(self, view: View) -> Any:
        crop = transforms.RandomResizedCrop(view.size, scale=view.crop_scale) if view.crop_scale else None
        return transforms.Compose(
            [
                crop or transforms.Resize((view.size, view.size)),
                transforms.RandomApply([transforms.ColorJitter(*view.jitter)], p=view.jitter_p),
                transforms.RandomGrayscale(p=view.gray_p),
                *([transforms.RandomApply([GaussianBlur(view.blur_sigma)], p=view.blur_p)] if view.blur_p else []),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean=MEAN, std=STD),
            ]
        )


class Kornia:
    """The same views by kornia's modules on a batch, each image with its own parameters."""

    def __init__(self, views: Sequence[View]) -> None:
        self._transforms = [self._transform(view) for view in views]

    def __call__(self, images_NCHW: Tensor) -> list[Tensor]:
        """Return the views of a batch of bytes."""
        with torch.no_grad():
            scaled_NCHW = images_NCHW.float() / 255
            return [transform(scaled_NCHW) for transform in self._transforms]

    def _transform(self, view: View) -> Any:
        from kornia import augmentation as kornia

        size = (view.size, view.size)
        crop = kornia.RandomResizedCrop(size, scale=view.crop_scale) if view.crop_scale else kornia.Resize(size)
        return torch.nn.Sequential(
            crop,
            kornia.ColorJitter(*view.jitter, p=view.jitter_p),
            kornia.RandomGrayscale(p=view.gray_p),
            kornia.RandomHorizontalFlip(),
            kornia.Normalize(mean=MEAN, std=STD),
        )
