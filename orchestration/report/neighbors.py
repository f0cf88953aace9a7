"""Nearest neighbors of a few test images in the feature space of a finished pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from jobs.inputs import BACKBONE
from orchestration.errors import StoreError
from orchestration.records import StageRun
from orchestration.report.pixels import Sheet, sheet
from orchestration.report.shelf import Absent
from orchestration.tracking import Store

if TYPE_CHECKING:
    from leoclr.augment.views import TestView
    from leoclr.data.contract import DataSet, Split

Places: TypeAlias = "NDArray[np.int64]"

QUERIES, K = 5, 8
SMALL, MANY, FEW = 64, 2000, 256  # up to so many pixels, so many training images are searched; else so many


@dataclass(frozen=True, slots=True)
class Near:
    """The neighbors of some test images, a query a row."""

    sheet: Sheet
    bank: int  # training images that were searched
    classes: tuple[tuple[str, tuple[str, ...]], ...]  # of each query, and of its neighbors; empty: none are known

    @property
    def agree(self) -> tuple[int, int]:
        """How many neighbors have their query's class, and how many there are."""
        return sum(own == each for own, near in self.classes for each in near), sum(len(n) for _, n in self.classes)

    @property
    def alt(self) -> str:
        """What there is to see, in words."""
        if not self.classes:
            return f"{QUERIES} test images, one a row; beside each its {K} nearest training images."
        rows = "; ".join(f"{own}: {', '.join(near)}" for own, near in self.classes)
        return f"Test images, one a row, and beside each its nearest training images. Classes: {rows}."


def near(run: StageRun, store: Store, data: DataSet) -> Near:
    """Return the nearest neighbors by the trunk that a pre-training left. Raises: Absent."""
    import torch

    from leoclr import checkpoint
    from leoclr.evaluate import features, neighbors

    if run.status != "FINISHED":
        raise Absent(f"it is not finished ({run.status.lower()})")
    size = int(run.params.get("image_size") or 224)
    train, test = data.splits["train"], data.splits["test"]
    queries, bank = _queries(test), _evenly(len(train), MANY if size <= SMALL else FEW)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        trunk = checkpoint.load_backbone(store.fetch(run.run_id, BACKBONE)).to(device)
        rows = {
            split: features.extract(trunk, data, split, view=_view(size), device=device, chosen=chosen)
            for split, chosen in (("train", bank), ("test", queries))
        }
    except (StoreError, checkpoint.CheckpointError) as error:
        raise Absent(f"its checkpoint cannot be used: {error}") from error
    found = neighbors.search(rows["train"], rows["test"], k=K).index_NK.cpu().numpy()
    return _shown(data, queries, bank[found], len(bank))


def _shown(data: DataSet, queries: Places, found_NK: Places, bank: int) -> Near:
    train, test = data.splits["train"], data.splits["test"]
    pictures = [
        [test.images.read(int(query)), *(train.images.read(int(each)) for each in row)]
        for query, row in zip(queries, found_NK, strict=True)
    ]
    if not len(test.labels) or (test.labels[queries] < 0).any() or (train.labels[found_NK] < 0).any():
        return Near(sheet(pictures), bank, ())
    own, others = test.labels[queries], train.labels[found_NK]
    marks = [[None, *(bool(each == mine) for each in row)] for mine, row in zip(own, others, strict=True)]
    named = tuple(
        (data.classes[mine], tuple(data.classes[each] for each in row)) for mine, row in zip(own, others, strict=True)
    )
    return Near(sheet(pictures, marks), bank, named)


def _view(size: int) -> TestView:
    """Return how the monitor of a pre-training looks at test images."""
    from leoclr.augment.views import TestView

    return TestView(resize=size if size < SMALL else round(size * 256 / 224), size=size)


def _queries(test: Split) -> Places:
    """Return the first test image of some classes, spread over all."""
    known = np.unique(test.labels[test.labels >= 0])
    if not len(known):
        return _evenly(len(test), QUERIES)
    picked = known[_evenly(len(known), QUERIES)]
    return np.array([np.flatnonzero(test.labels == label)[0] for label in picked], dtype=np.int64)


def _evenly(size: int, count: int) -> Places:
    return np.unique(np.linspace(0, size - 1, min(size, count)).round().astype(np.int64))
