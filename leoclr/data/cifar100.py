"""CIFAR-100: 50,000 training and 10,000 test images of 100 (fine) classes, 32 x 32. The formats: `cifar`."""

from __future__ import annotations

from pathlib import Path

from leoclr.data import cifar
from leoclr.data.contract import DataSet

# vturrisi/solo-learn, solo/data/dali_dataloader.py, MEANS_N_STD
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
VALID_SIZE = 5067  # BYOL, arXiv:2006.07733, table 10: 44,933 train, 5,067 valid
RULE = "cifar100 1: the files' own splits, fine labels"
FORMAT = cifar.Format(
    folder="cifar-100-python",
    binary="cifar-100-binary",
    train=("train",),
    test=("test",),
    labels="fine_labels",
    names=("meta", "fine_label_names"),
    binary_names="fine_label_names.txt",
    label_bytes=2,  # coarse, then fine
    classes=100,
)


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the files' bytes and of the split rule. Raises: DataError when one is missing."""
    return cifar.digest(root, FORMAT, RULE)


def load(root: Path) -> DataSet:
    """Return both splits in memory. Raises: DataError naming the file that is missing or damaged."""
    classes, splits = cifar.read(root, FORMAT)
    return DataSet("cifar100", classes, splits, MEAN, STD, valid_size=VALID_SIZE)
