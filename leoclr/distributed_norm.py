"""Batch norm over the rows of all workers, on every device; without a process group, plain batch norm.

torch's SyncBatchNorm runs on accelerators alone. This one needs nothing but the backend's all_gather and all_reduce, so
it runs on gloo too. W workers; the other axes are those of the package, H and W (pixels) absent for vectors.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from leoclr import distributed


class SynchronizedBatchNorm(_BatchNorm):
    """Batch norm [N, C] or [N, C, H, W] whose training statistics are those of all workers' rows together.

    Workers may hold different numbers of rows, none included: each row counts once, wherever it is (detectron2's
    NaiveSyncBatchNorm with stats_mode="N", detectron2/layers/batch_norm.py; its default "" assumes equal numbers).
    Gradients are exact: those of one process that holds all rows. In training, every worker must call it. Evaluation
    mode and a single worker are torch's batch norm, bit by bit. Names in its state are those of torch's.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the normalized rows, in training with the statistics of all workers, which move the running ones."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(x_NCHW)
        weight_C = self.weight if self.affine else x_NCHW.new_ones(self.num_features)
        bias_C = self.bias if self.affine else x_NCHW.new_zeros(self.num_features)
        out_NCHW, mean_C, squares_C, total = _Normalize.apply(x_NCHW, weight_C, bias_C, self.eps)
        if self.track_running_stats:
            self._track(mean_C, squares_C, total)
        return cast(Tensor, out_NCHW)

    @torch.no_grad()
    def _track(self, mean_C: Tensor, squares_C: Tensor, total: Tensor) -> None:
        """Move the running statistics as torch's batch norm does: the variance is the unbiased one."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), share)
        self.running_var.lerp_((squares_C / (total - 1)).to(self.running_var.dtype), share)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name
        if input.ndim < 2:
            raise ValueError(f"at least 2 axes, not {input.ndim}")


class _Normalize(torch.autograd.Function):
    """Normalize with joint statistics. Source of the gradient: Ioffe and Szegedy 2015, arXiv:1502.03167, section 3."""

    @staticmethod
    def forward(
        ctx: Any, x_NCHW: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_C, squares_C, total = _joint_statistics(x_NCHW)
        variance_C = squares_C / total
        out_NCHW = functional.batch_norm(x_NCHW, mean_C, variance_C, weight_C, bias_C, training=False, eps=eps)
        ctx.save_for_backward(x_NCHW, weight_C, mean_C, (variance_C + eps).rsqrt(), total)
        ctx.mark_non_differentiable(mean_C, squares_C, total)
        return out_NCHW, mean_C, squares_C, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NCHW: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_NCHW, weight_C, mean_C, scale_C, total = ctx.saved_tensors
        wide_NCHW = grad_NCHW.to(mean_C.dtype)
        normal_NCHW = (x_NCHW.to(mean_C.dtype) - _wide(mean_C, x_NCHW)) * _wide(scale_C, x_NCHW)
        axes = _all_but_channels(x_NCHW)
        bias_grad_C, weight_grad_C = wide_NCHW.sum(axes), (wide_NCHW * normal_NCHW).sum(axes)
        # The statistics hang on every worker's rows: their part of the gradient is a sum over workers. That of the
        # parameters stays each worker's own, for whoever averages parameters' gradients.
        sums_2C = torch.stack([bias_grad_C, weight_grad_C])
        dist.all_reduce(sums_2C)
        shift_C, slope_C = sums_2C / total
        through_NCHW = wide_NCHW - _wide(shift_C, x_NCHW) - normal_NCHW * _wide(slope_C, x_NCHW)
        x_grad_NCHW = through_NCHW * _wide(scale_C * weight_C, x_NCHW)
        dtypes = x_NCHW.dtype, weight_C.dtype
        return x_grad_NCHW.to(dtypes[0]), weight_grad_C.to(dtypes[1]), bias_grad_C.to(dtypes[1]), None


def convert_sync_batchnorm(module: nn.Module) -> nn.Module:
    """Return `module` with every BatchNorm1d and BatchNorm2d, itself included, synchronized over workers.

    Parameters and buffers are the same objects under the same names; `module` is changed in place. Convert a module
    that is already on its device: on CUDA the norms become torch's own SyncBatchNorm, whose kernels are faster.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _converted(module)
    for name, child in module.named_children():
        setattr(module, name, convert_sync_batchnorm(child))
    return module


def _converted(norm: _BatchNorm) -> nn.Module:
    on_cuda = any(tensor.is_cuda for tensor in (norm.weight, norm.running_mean) if tensor is not None)
    kind: type[_BatchNorm] = nn.SyncBatchNorm if on_cuda else SynchronizedBatchNorm
    made = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made._parameters.update(norm._parameters)
    made._buffers.update(norm._buffers)
    return made.train(norm.training)


def _joint_statistics(x_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return per channel the mean and the sum of squared distances to it, and the number of positions, of all workers.

    Half precision is summed in float32. Source: Chan et al. 1979, "Updating formulae and a pairwise algorithm for
    computing sample variances", eq. (2.1).
    """
    wide_NCHW = x_NCHW if x_NCHW.dtype in (torch.float32, torch.float64) else x_NCHW.float()
    positions, channels = x_NCHW.numel() // x_NCHW.shape[1], x_NCHW.shape[1]
    if positions:
        variance_C, mean_C = torch.var_mean(wide_NCHW, _all_but_channels(x_NCHW), correction=0)
    else:
        variance_C = mean_C = wide_NCHW.new_zeros(channels)
    mine = torch.cat([mean_C, variance_C * positions, wide_NCHW.new_tensor([positions])])
    means_WC, squares_WC, counts_W1 = distributed.gather(mine[None]).split([channels, channels, 1], dim=1)
    total = counts_W1.sum()
    joint_C = (counts_W1 * means_WC).sum(0) / total
    return joint_C, (squares_WC + counts_W1 * (means_WC - joint_C) ** 2).sum(0), total


def _all_but_channels(x_NCHW: Tensor) -> list[int]:
    return [axis for axis in range(x_NCHW.ndim) if axis != 1]


def _wide(values_C: Tensor, like_NCHW: Tensor) -> Tensor:
    """Return values of channels in a shape that broadcasts over `like_NCHW`."""
    return values_C.view(1, -1, *[1] * (like_NCHW.ndim - 2))
