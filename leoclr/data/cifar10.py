"""CIFAR-10: 50,000 training and 10,000 test images of 10 classes, 32 x 32. The formats: `cifar`."""

from __future__ import annotations

from pathlib import Path

from leoclr.data import cifar
from leoclr.data.contract import DataSet

# facebookresearch/moco, branch colab-notebook, colab/moco_cifar10_demo.ipynb. The training images' own deviations are
# (0.247, 0.2435, 0.2616), which solo-learn uses (kuangliu/pytorch-cifar#19); these are those of the recipe we match.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
VALID_SIZE = 5000  # BYOL, arXiv:2006.07733, table 10: 45,000 train, 5,000 valid
RULE = "cifar10 1: the files' own splits"
FORMAT = cifar.Format(
    folder="cifar-10-batches-py",
    binary="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    labels="labels",
    names=("batches.meta", "label_names"),
    binary_names="batches.meta.txt",
    label_bytes=1,
    classes=10,
)


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the files' bytes and of the split rule. Raises: DataError when one is missing."""
    return cifar.digest(root, FORMAT, RULE)


def load(root: Path) -> DataSet:
    """Return both splits in memory. Raises: DataError naming the file that is missing or damaged."""
    classes, splits = cifar.read(root, FORMAT)
    return DataSet("cifar10", classes, splits, MEAN, STD, valid_size=VALID_SIZE)
