"""PASCAL VOC 2007 + 2012, detection: trains on both years' trainval (5,011 + 11,540 images), tests on 2007's 4,952.

    VOCdevkit/VOC2007/{JPEGImages,Annotations,ImageSets/Main}      VOCdevkit/VOC2012/{...}

The split of MoCo's detection table (facebookresearch/moco, detection/configs/pascal_voc_R_50_C4_24k.yaml). The layout
of one year: `voc`. Source: Everingham et al., IJCV 2010 and 2015.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leoclr.data import imagenet, layout, voc
from leoclr.data.contract import DataSet, Split
from leoclr.data.digest_cache import digest_tree
from leoclr.data.files import Files

# VOC's own order, from the development kit's VOCinit.m
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
PARTS = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")), "test": (("VOC2007", "test"),)}
RULE = "voc0712 1: trainval of 2007 and 2012 is train, test of 2007 is test"
_HINT = (
    "expected VOCdevkit/VOC2007 and VOCdevkit/VOC2012 of VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar and "
    "VOCtrainval_11-May-2012.tar"
)


def digest(root: Path) -> str:
    """Return the sha256 (hex) of lists, listed images, annotations and split rule; the first time it reads 2.5 GB.

    Raises: DataError naming what is missing.
    """
    base = _base(root)
    files: list[Path] = []
    for year, part in (one for parts in PARTS.values() for one in parts):
        listing, images, annotations = voc.files_of(base / year, part)
        files += [listing, *images.paths, *annotations]
    return digest_tree(base, RULE, files=files)


def load(root: Path) -> DataSet:
    """Return the splits; images are opened when they are read. Raises: DataError naming what is missing or wrong."""
    base = _base(root)
    splits = {}
    for split, parts in PARTS.items():
        read = [voc.read_split(base / year, part, CLASSES) for year, part in parts]
        images = Files(tuple(path for files, _ in read for path in files.paths))
        splits[split] = Split(images, np.empty(0, np.int64), tuple(scene for _, scenes in read for scene in scenes))
    return DataSet("voc0712", CLASSES, splits, imagenet.MEAN, imagenet.STD, metric="map11")


def _base(root: Path) -> Path:
    return layout.find(root, "VOCdevkit", holds="VOC2007", hint=_HINT)
