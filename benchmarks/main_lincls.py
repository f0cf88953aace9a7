"""The step of facebookresearch/moco, main_lincls.py, as its users run it: frozen torchvision network, one rate.

Source: https://github.com/facebookresearch/moco/blob/010242b77d0ccc6a9b094ad95af127b99f72fe89/main_lincls.py, the
model of `main_worker` and the loop of `train`, without its printing.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from leoclr.backbones import Backbone


class Lincls:
    """One run: NCHW, float32, SGD on `fc`, accuracies taken and the loss read at each step."""

    def __init__(self, backbone: Backbone, name: str, *, classes: int, lr: float) -> None:
        """Load `backbone`, of width 64 and the imagenet stem, into torchvision's network `name`."""
        self._model = getattr(torchvision.models, name)(num_classes=classes)
        state = {
            key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in backbone.state_dict().items()
        }
        self._model.load_state_dict(state, strict=False)
        for parameter_name, parameter in self._model.named_parameters():
            parameter.requires_grad = parameter_name in ("fc.weight", "fc.bias")
        self._model.fc.weight.data.normal_(mean=0.0, std=0.01)
        self._model.fc.bias.data.zero_()
        self._criterion = nn.CrossEntropyLoss()
        parameters = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=0.0)
        self._model.eval()

    def step(self, images_NCHW: Tensor, labels_N: Tensor) -> float:
        """Take one step and return the loss."""
        output_NC = self._model(images_NCHW)
        loss = self._criterion(output_NC, labels_N)
        _accuracy(output_NC, labels_N)
        read = float(loss.item())
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return read


@torch.no_grad()
def _accuracy(output_NC: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    found_5N = output_NC.topk(5, 1, True, True).indices.t()
    right_5N = found_5N.eq(labels_N.view(1, -1).expand_as(found_5N))
    top1, top5 = (right_5N[:k].reshape(-1).float().sum(0, keepdim=True) * (100.0 / len(labels_N)) for k in (1, 5))
    return top1, top5
