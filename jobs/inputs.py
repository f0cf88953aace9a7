"""What stages load before they train: their data set, and the backbone of the stage before them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from jobs import keeping
from jobs.contract import Job
from leoclr import checkpoint
from leoclr import data as datasets
from leoclr.backbones import Backbone
from leoclr.data.contract import UNLABELED, Corrupt, DataError, DataSet

P = TypeVar("P")

BACKBONE = "backbone.safetensors"
"""The file of a result that evaluations start from."""

CHECKPOINT = "checkpoint.pt"
"""The file of a result with all that decides the next number: what a pre-training goes on from."""


def params(job: Job, kind: type[P]) -> P:
    """Return the typed params of `job`; they were checked before it was sent."""
    return TypeAdapter(kind).validate_python(job.params)


def data(job: Job) -> DataSet:
    """Return the data set that the params name, without damaged images where they say `skip`.

    Those are named in the log, by `leoclr.data.without_corrupt`.

    Raises: DataError when it is missing or wrong, has more damaged images than the params allow, or is of another use:
        boxes for a detection, classes for the other evaluations.
    """
    found = datasets.module(str(job.params["dataset"])).load(keeping.keeper().data(job.data_root))
    _require_answers(job.kind, found)
    corrupt = Corrupt(**job.params.get("corrupt", {}))
    return found if corrupt.policy == "fail" else datasets.without_corrupt(found, limit=corrupt.limit)[0]


def _require_answers(kind: str, data: DataSet) -> None:
    """Raise DataError when the images to learn from lack what an evaluation of `kind` asks for."""
    train = data.splits["train"]
    if kind == "detection" and not len(train.scenes):
        raise DataError(f"{data.name}: its images have classes, and no boxes to detect", hint="such as voc0712 or coco")
    if kind not in ("detection", "pretrain") and not (train.labels != UNLABELED).any():
        raise DataError(f"{data.name}: none of its training images has a class", hint=f"{kind} learns classes")


def backbone(job: Job) -> Backbone:
    """Return the pre-trained trunk of the `pretrain` stage that this one needs."""
    path = Path(job.inputs["pretrain"])
    keeping.keeper().bring(path)
    return checkpoint.load_backbone(path)
