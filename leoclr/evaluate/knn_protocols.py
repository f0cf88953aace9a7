"""kNN evaluation as public code does it: one settings class a protocol, every default with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from leoclr.augment.views import TestView
from leoclr.evaluate.folded import Precision

IMAGENET = TestView(resize=256, size=224)
CIFAR = TestView(resize=32, size=32)
MNIST = TestView(resize=28, size=28)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnnProtocol:
    """Settings of a weighted vote on the backbone's features; the defaults are Wu et al.'s."""

    view: TestView = IMAGENET  # of bank and queries; lemniscate.pytorch, main.py: Resize(256), CenterCrop(224)
    k: tuple[int, ...] = (200,)  # neighbors; the first one's accuracies are the evaluation's; arXiv:1805.01978, 3.4
    temperature: float = 0.07  # dimensionless; arXiv:1805.01978, 3.4
    precision: Precision = "fp32"  # of the backbone; every source below: float32

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1 or len(set(self.k)) < len(self.k):
            raise ValueError(f"k: {list(self.k)} are not different positive numbers of neighbors")
        if self.temperature <= 0:
            raise ValueError(f"temperature: {self.temperature} is not positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wu2018(KnnProtocol):
    """Wu et al. 2018, arXiv:1805.01978, section 3.4, where the weighted vote comes from.

    They vote on the 128 values behind their last layer; here, as in later papers, on the backbone's features.
    """

    VERSION: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MoCoCifar(KnnProtocol):
    """MoCo's monitor on CIFAR-10: facebookresearch/moco, branch colab-notebook, colab/moco_cifar10_demo.ipynb.

    The demo votes on the 128 values behind its last layer, here the backbone's features vote.
    """

    VERSION: ClassVar[int] = 1

    view: TestView = CIFAR  # the demo resizes nothing
    temperature: float = 0.1  # the demo, --knn-t


@dataclass(frozen=True, slots=True, kw_only=True)
class Lightly(KnnProtocol):
    """Lightly's benchmark of ResNet-50: lightly-ai/lightly, benchmarks/imagenet/resnet50/{main,knn_eval}.py."""

    VERSION: ClassVar[int] = 1

    temperature: float = 0.1  # main.py, --knn-t; 0.07 for its ViT


@dataclass(frozen=True, slots=True, kw_only=True)
class MMSelfSup20(KnnProtocol):
    """MMSelfSup's benchmark: open-mmlab/mmselfsup, tools/benchmarks/classification/knn_imagenet/test_knn.py."""

    VERSION: ClassVar[int] = 1

    k: tuple[int, ...] = (20, 10, 100, 200)  # --num-knn; "20 usually works the best": its model zoo shows 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Small(KnnProtocol):
    """MoCo's monitor for images of 28 pixels."""

    VERSION: ClassVar[int] = 1

    view: TestView = MNIST
    temperature: float = 0.1  # the demo that `MoCoCifar` names
