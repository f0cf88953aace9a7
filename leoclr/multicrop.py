"""Views of several sizes through one network, and their balanced assignment to prototypes (SwAV, DINO).

N images of one worker's batch, V views of an image, F feature values, P prototypes, M rows of one worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from leoclr import distributed


def features(backbone: nn.Module, images: Sequence[Tensor]) -> Tensor:
    """Return the features [V * N, F] of views [N, C, H, W], view after view; neighbors of one size in one pass.

    Batch norm sees the views of a pass together.
    Source: MultiCropWrapper of https://github.com/facebookresearch/dino/blob/7c446df5b9f45747937fb0d72314eb9f7b66930a/
    utils.py; `forward` of facebookresearch/swav, src/resnet50.py, is the same.
    """
    passes = [torch.cat(list(group)) for _, group in groupby(images, key=lambda view_NCHW: view_NCHW.shape[-1])]
    return torch.cat([backbone(images_NCHW) for images_NCHW in passes])


@torch.no_grad()
def sinkhorn(scores_MP: Tensor, *, epsilon: float, iterations: int) -> Tensor:
    """Return an assignment [M, P] of rows to prototypes: rows sum to 1, prototypes get nearly equal shares of all rows.

    Scores are cosines, `epsilon` (above 0) is how soft the assignment is. Shares are those among the rows of all
    workers; every worker must call it.
    Source: Caron et al. 2020, arXiv:2006.09882, eq. (3) and section 3.1, as `distributed_sinkhorn` of
    https://github.com/facebookresearch/swav/blob/06b1b7cbaf6ba2a792300d79c7299db98b93b7f9/main_swav.py
    Its divisions by the numbers of rows and of prototypes, and by the sum of all at the start, cancel: left out.

    >>> sinkhorn(torch.tensor([[1.0, 0.9], [1.0, 0.8]]), epsilon=0.05, iterations=50).argmax(dim=1).tolist()
    [1, 0]
    """
    share_MP = (scores_MP.float() if scores_MP.dtype in (torch.bfloat16, torch.float16) else scores_MP) / epsilon
    share_MP = share_MP.exp()
    for _ in range(iterations):
        share_MP = share_MP / distributed.gather(share_MP.sum(dim=0, keepdim=True)).sum(dim=0)
        share_MP = share_MP / share_MP.sum(dim=1, keepdim=True)
    return share_MP
