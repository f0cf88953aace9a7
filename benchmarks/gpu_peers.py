"""LeOCLR as it is first written: fp32, torch's own memory layout, one kernel for each parameter and each term.

N images, D embedding values, C channels, H x W pixels.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.step_peers import DECAY, DIM, LR, MOMENTUM, QUEUE, SGD_MOMENTUM, TEMPERATURE, Size
from leoclr import backbones
from leoclr.heads import projection


class Plain:
    """facebookresearch/moco's loop with a third view and a second term, on one GPU.

    Source: https://github.com/facebookresearch/moco/blob/4397a04ed63a95c4a157f017a71883944003b615/moco/builder.py and
    main_moco.py there: logits of positive and negatives joined, cross-entropy, parameters averaged one by one, the loss
    and the accuracy read at every step. TF32 in convolutions as torch has it by default.
    """

    def __init__(self, size: Size, device: torch.device) -> None:
        """Draw a new network from torch's global generator."""
        trunk = backbones.build(size.backbone, width=size.width, stem=size.stem)
        self.fast = nn.Sequential(trunk, projection(trunk.feature_dim, DIM, kind="mlp")).to(device).train()
        self.slow = copy.deepcopy(self.fast).requires_grad_(False)
        self.queue = functional.normalize(torch.randn(DIM, QUEUE, device=device), dim=0)
        self.place = 0
        self.optimizer = torch.optim.SGD(self.fast.parameters(), lr=LR, momentum=SGD_MOMENTUM, weight_decay=DECAY)
        self.seen: list[float] = []

    def take(self, views: tuple[Tensor, ...]) -> None:
        """Train on one batch."""
        original_NCHW, *crops = views
        query_ND = functional.normalize(self.fast(original_NCHW), dim=1)
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
                slow.data = slow.data * MOMENTUM + fast.data * (1.0 - MOMENTUM)
            keys = [functional.normalize(self.slow(crop_NCHW), dim=1) for crop_NCHW in crops]
        loss = sum((self._term(query_ND, key_ND) for key_ND in keys), start=torch.zeros((), device=query_ND.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for key_ND in keys:
            self._push(key_ND)
        self.seen.append(loss.item())

    def _term(self, query_ND: Tensor, key_ND: Tensor) -> Tensor:
        positive_N1 = torch.einsum("nc,nc->n", [query_ND, key_ND]).unsqueeze(-1)
        negative_NK = torch.einsum("nc,ck->nk", [query_ND, self.queue.clone().detach()])
        logits = torch.cat([positive_N1, negative_NK], dim=1) / TEMPERATURE
        labels_N = torch.zeros(logits.shape[0], dtype=torch.long, device=logits.device)
        self.seen.append((logits.topk(5)[1] == 0).any(dim=1).float().mean().item())
        return functional.cross_entropy(logits, labels_N)

    def _push(self, key_ND: Tensor) -> None:
        if self.place + len(key_ND) > QUEUE:
            self.place = 0
        self.queue[:, self.place : self.place + len(key_ND)] = key_ND.T
        self.place += len(key_ND)
