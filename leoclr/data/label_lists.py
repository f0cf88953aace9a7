"""Published lists of the training images whose labels a semi-supervised evaluation uses, as the user has put them.

root/imagenet_subsets/1percent.txt      one file name a line, such as n01440764_10026.JPEG
root/imagenet_subsets/10percent.txt
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from leoclr.data.contract import DataError

FOLDER = "imagenet_subsets"
"""Where the lists lie below a data set's root; the name of their folder in google-research/simclr."""


@dataclass(frozen=True, slots=True)
class LabelList:
    """A published list."""

    file: str
    lines: int
    sha256: str


# https://github.com/google-research/simclr/tree/383d4143fd8cf7879ae10f1046a9baeb753ff438/imagenet_subsets
IMAGENET_LISTS = {  # by percent of the labels
    1.0: LabelList("1percent.txt", 12_811, "71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17"),
    10.0: LabelList("10percent.txt", 128_116, "6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091"),
}


def signature(root: Path) -> str:
    """Return what the lists below `root` add to a data set's rule: they decide numbers, so a digest covers them.

    Empty when there are none.
    """
    found = [root / FOLDER / known.file for known in IMAGENET_LISTS.values()]
    digests = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in found if path.is_file()]
    return "".join(f"; {each}" for each in digests)


def read(root: Path, pct: float, lists: Mapping[float, LabelList] = IMAGENET_LISTS) -> list[str] | None:
    """Return the file names on the published list of `pct` percent below `root`.

    None when no list is published for `pct`, or the user has put none there.
    Raises: DataError when a list is there but is not the published one.
    """
    known = lists.get(pct)
    if known is None or not (path := root / FOLDER / known.file).is_file():
        return None
    content = path.read_bytes()
    names, digest = content.decode(errors="replace").split(), hashlib.sha256(content).hexdigest()
    hint = f"take {known.file} from {FOLDER} of google-research/simclr, or remove it to draw a share of each class"
    if len(names) != known.lines:
        raise DataError(f"{path}: {len(names)} lines, the published list has {known.lines}", hint=hint)
    if digest != known.sha256:
        raise DataError(f"{path}: sha256 {digest[:8]}..., the published list has {known.sha256[:8]}...", hint=hint)
    return names
