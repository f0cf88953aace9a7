"""Birdsnap 1.1: 47,386 training and 2,443 test images of 500 species of birds, as its own script downloads them.

    birdsnap/{species,images,test_images}.txt      birdsnap/images/<species>/<number>.jpg, or below download/images

The lists are tab-separated under a line of field names. The images are on Flickr, and thousands are gone: listed ones
that are not there are left out, `missing` names them, and the digest moves with what is there. So a number on Birdsnap
compares only with those of an equal count; BYOL had 42,405 + 4,981 training and all 2,443 test images. Source: Berg et
al., CVPR 2014; the format: readme.txt of http://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from leoclr.data import imagenet, layout
from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.digest_cache import digest_tree
from leoclr.data.files import Files, images_in

VALID_SIZE = 4981  # BYOL, arXiv:2006.07733, table 10: 42,405 train, 4,981 valid
RULE = "birdsnap 1: test_images.txt is test, the others train, absent ones neither; images count by name and size"
_HINT = (
    "expected species.txt, images.txt and test_images.txt of birdsnap.tgz, and the images that its get_birdsnap.py "
    "downloads, below images/ or download/images/"
)


def digest(root: Path) -> str:
    """Return the sha256 (hex) of the lists, of the images that are there by name and size, and of the split rule.

    The bytes are not read: the images have Flickr's full resolution, 60 GB. Raises: DataError when a list is missing.
    """
    base = _base(root)
    folder = _images(base)
    lists = [base / name for name in ("species.txt", "images.txt", "test_images.txt")]
    species = sorted({Path(path).parent for path, _ in _listed(base)})
    return digest_tree(base, RULE, files=lists, folders=[folder / name for name in species if (folder / name).is_dir()])


def load(root: Path) -> DataSet:
    """Return the splits of the images that are there, opened when they are read.

    Raises: DataError when a list is missing or wrong, or a split has no image.
    """
    base = _base(root)
    folder, present, test = _images(base), _present(base), _test(base)
    classes = tuple(fields["common"] for fields in _rows(base / "species.txt", "id", "common"))
    splits = {}
    for name in ("train", "test"):
        rows = [
            (path, label) for path, label in _listed(base) if path in present and (path in test) == (name == "test")
        ]
        labels = np.array([label for _, label in rows], np.int64) - 1
        if not rows or labels.min() < 0 or labels.max() >= len(classes):
            raise DataError(
                f"{base}: {name} has {len(rows)} images, or labels not from 1 to {len(classes)}", hint=_HINT
            )
        splits[name] = Split(Files(tuple(folder / path for path, _ in rows)), labels)
    return DataSet("birdsnap", classes, splits, imagenet.MEAN, imagenet.STD, valid_size=VALID_SIZE)


def missing(root: Path) -> tuple[str, ...]:
    """Return the listed images that are not there. Raises: DataError when a list is missing or wrong."""
    base = _base(root)
    present = _present(base)
    return tuple(path for path, _ in _listed(base) if path not in present)


def _base(root: Path) -> Path:
    return layout.find(root, "birdsnap", holds="test_images.txt", hint=_HINT)


def _images(base: Path) -> Path:
    for folder in (base / "images", base / "download" / "images"):
        if folder.is_dir():
            return folder
    raise DataError(f"{base}: there is neither images nor download/images", hint=_HINT)


def _listed(base: Path) -> list[tuple[str, int]]:
    """Return (path, 1-based species) of every image of images.txt."""
    source = base / "images.txt"
    rows = _rows(source, "path", "species_id")
    wrong = next((fields["species_id"] for fields in rows if not fields["species_id"].isdecimal()), None)
    if wrong is not None:
        raise DataError(f"{source}: species_id {wrong!r} is no number", hint=_HINT)
    return [(layout.safe(fields["path"], source), int(fields["species_id"])) for fields in rows]


def _test(base: Path) -> set[str]:
    return {fields["path"] for fields in _rows(base / "test_images.txt", "path")}


def _present(base: Path) -> set[str]:
    folder = _images(base)
    species = {Path(path).parent.as_posix() for path, _ in _listed(base)}
    return {
        f"{name}/{entry.name}" for name in species if (folder / name).is_dir() for entry in images_in(folder / name)
    }


def _rows(path: Path, *wanted: str) -> list[dict[str, str]]:
    """Return the lines of a tab-separated list under its first line, which names the fields `wanted`."""
    head, *lines = [line.split("\t") for line in layout.read_lines(path, _HINT)] or [[]]
    if not set(wanted) <= set(head) or any(len(line) != len(head) for line in lines):
        raise DataError(f"{path}: not a table with the fields {', '.join(wanted)}", hint=_HINT)
    return [dict(zip(head, line, strict=True)) for line in lines]
