"""What a method saw: training images, and the views that it made of them in its first epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestration.records import StageRun
from orchestration.report.pixels import Image, Sheet, sheet
from orchestration.report.shelf import Absent

if TYPE_CHECKING:
    from leoclr.augment.views import View
    from leoclr.data.contract import DataSet, Split

IMAGES = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """The views of a few images, an image a row."""

    sheet: Sheet
    views: tuple[str, ...]  # how each view is made, in words

    @property
    def alt(self) -> str:
        """What there is to see, in words."""
        return f"{IMAGES} training images, one a row; beside each, {len(self.views)} views that training made of it."


def seen(run: StageRun, data: DataSet) -> Seen:
    """Return the views that a pre-training made of some images in its first epoch. Raises: Absent."""
    from jobs import inputs
    from jobs.contract import Job, Resources
    from jobs.pretrain import params_type
    from leoclr import methods

    name = str(run.params.get("method"))
    if name not in methods.METHODS:
        raise Absent("its weights come from elsewhere")
    module = methods.module(name)
    if not module.TRAINS:
        raise Absent("it is never trained, so it saw nothing")
    job = Job(
        stage=run.stage, kind=run.kind, fingerprint="", params=dict(run.params), resources=Resources(), folder="",
        data_root="",
    )  # fmt: skip
    params = inputs.params(job, params_type(run.params))
    views = module.views(params.settings, params.image_size)  # type: ignore[attr-defined]  # of a pre-training's params
    split = data.splits["train" if module.Method.READS_CLASSES else _trained_on(data)]
    chosen = _spread(split)
    return Seen(sheet(_rows(split, data, views, chosen, params.seed)), tuple(map(in_words, views)))


def _trained_on(data: DataSet) -> str:
    return "unlabeled" if "unlabeled" in data.splits else "train"


def _spread(split: Split) -> list[int]:
    """Return some images, of different classes where those are known."""
    labels = split.labels[:2000]
    first = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels[labels >= 0])[:IMAGES]]
    rest = (index for index in range(len(split)) if index not in first)
    return (first + [next(rest) for _ in range(min(IMAGES, len(split)) - len(first))])[:IMAGES]


def _rows(split: Split, data: DataSet, views: tuple[View, ...], chosen: list[int], seed: int) -> list[list[Image]]:
    from leoclr.augment.loader import ViewLoader

    originals = [split.images.read(index) for index in chosen]
    loader = ViewLoader(_Read(split), views, mean=data.mean, std=data.std, seed=seed, device="cpu")
    (batch,) = loader.batches(0, [np.array(chosen, dtype=np.int64)])
    mean, std = np.array(data.mean, np.float32), np.array(data.std, np.float32)
    made = [view_NCHW.permute(0, 2, 3, 1).numpy() * std + mean for view_NCHW in batch]
    levels = [(255 * view_NHWC).round().clip(0, 255).astype(np.uint8) for view_NHWC in made]
    return [[original, *(view_NHWC[i] for view_NHWC in levels)] for i, original in enumerate(originals)]


class _Read:
    """The images of a split one by one: a loader would copy all images in memory to its device."""

    def __init__(self, split: Split) -> None:
        self._images = split.images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Image:
        return self._images.read(index)


def in_words(view: View) -> str:
    """Return how a view is made."""
    low, high = view.crop_scale or (1.0, 1.0)
    said = [f"crop of {100 * low:g} to {100 * high:g} % of the area" if view.crop_scale else "the whole image"]
    jitter = "/".join(f"{each:g}" for each in view.jitter)
    chances = {
        f"color jitter {jitter}": view.jitter_p if any(view.jitter) else 0.0,
        "gray": view.gray_p,
        "blur": view.blur_p,
        "flip": view.flip_p,
        "solarize": view.solarize_p,
    }
    said += [f"{name} (p {p:g})" for name, p in chances.items() if p]
    if view.strong != "none":
        said.append(f"{view.strong_picks} strong operations (p {view.strong_p:g} each)")
    return f"{view.size} px: {', '.join(said)}"
