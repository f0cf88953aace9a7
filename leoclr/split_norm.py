"""Batch norm of parts of a batch, so that one worker can do what shuffled batch norm does on several.

N images of one worker's batch, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class SplitBatchNorm2d(_BatchNorm):
    """In training, image n is normalized with the images of its part: those with the same n modulo `splits`.

    Running statistics are the mean over the parts. Evaluation mode is torch's batch norm; so are names in its state.
    Source: `SplitBatchNorm` of facebookresearch/moco, branch colab-notebook, colab/moco_cifar10_demo.ipynb.
    """

    splits: int

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the normalized images. Raises: ValueError when `splits` does not divide a training batch."""
        if not self.training:
            return super().forward(x_NCHW)
        images, channels, height, width = x_NCHW.shape
        if images % self.splits:
            raise ValueError(f"bn_splits: {images} images cannot be split into {self.splits} equal parts")
        assert self.running_mean is not None
        assert self.running_var is not None
        mean_P, variance_P = (moment.repeat(self.splits) for moment in (self.running_mean, self.running_var))
        parts_NPHW = x_NCHW.contiguous().view(images // self.splits, self.splits * channels, height, width)
        weight_P, bias_P = (each.repeat(self.splits) for each in (self.weight, self.bias))
        momentum = 0.1 if self.momentum is None else self.momentum
        done_NPHW = functional.batch_norm(parts_NPHW, mean_P, variance_P, weight_P, bias_P, True, momentum, self.eps)
        self._track(mean_P, variance_P)
        return done_NPHW.view(images, channels, height, width).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def _track(self, mean_P: Tensor, variance_P: Tensor) -> None:
        for moment, parts_P in ((self.running_mean, mean_P), (self.running_var, variance_P)):
            cast(Tensor, moment).copy_(parts_P.view(self.splits, -1).mean(dim=0))
        cast(Tensor, self.num_batches_tracked).add_(1)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name
        if input.ndim != 4:
            raise ValueError(f"expected images [N, C, H, W], not {input.ndim} axes")


def split_batchnorm(module: nn.Module, splits: int) -> nn.Module:
    """Return `module` with every BatchNorm2d, itself included, split into `splits` parts; changed in place.

    Parameters and buffers are the same objects under the same names.
    """
    if isinstance(module, nn.BatchNorm2d):
        made = SplitBatchNorm2d(module.num_features, module.eps, module.momentum)
        made.splits = splits
        made._parameters.update(module._parameters)
        made._buffers.update(module._buffers)
        return made.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, split_batchnorm(child, splits))
    return module
