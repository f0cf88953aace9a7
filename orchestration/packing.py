"""Pack the images of a data set: small copies, one after the other in one file (`leoclr.data.packed`).

It is written beside its place and renamed into it when it is whole. What was interrupted, by whatever, goes on at its
last whole block. Images are made small in several processes and written by this one, in the order of the data set: the
bytes do not depend on how many there are, and no more images are in memory than the processes have under way.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from leoclr import data as datasets
from leoclr.data import label_lists, packed
from leoclr.data.contract import DataError, DataSet
from leoclr.data.files import Files
from leoclr.data.manifest import (
    IMAGES,
    INDEX,
    MANIFEST,
    NAMES,
    VERSION,
    Entry,
    Manifest,
    encode,
    is_store,
    read,
    sha256_of,
)
from leoclr.data.shrinking import Shrinking, Small, shrink_files
from orchestration.data_sets import known
from orchestration.errors import DataProblem
from orchestration.pack_draft import Block, Draft, sync_folder, write_synced
from orchestration.pack_workers import shrink_all
from orchestration.storage import locked

Show = Callable[[int, int], None]
"""Called with the images that are packed and those of the whole data set."""

BLOCK = 1000  # images that are lost at most when a packing is killed
_PART = 16  # images that a process is given at a time
_SAMPLE = 64  # images that are made small to tell how much disk is needed
_MARGIN = 1.1  # times that, since a sample is a sample
_CONTINUES = "what is written is kept: the same command continues it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to pack, where to, and how."""

    name: str  # of the data set
    root: Path  # where it lies
    to: Path  # the folder that is made
    how: Shrinking = field(default_factory=Shrinking)
    workers: int = 0  # processes; 0: one for each CPU
    limit: int = 0  # most images that cannot be decoded and may be left out


@dataclass(frozen=True, slots=True)
class Done:
    """What came of it."""

    images: int
    bytes: int  # of the images
    left_out: tuple[str, ...]  # paths of originals
    is_new: bool  # False: the same store was there already


@dataclass(frozen=True)
class _Batch:
    """Originals of one split that make a block."""

    split: str
    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    names: tuple[str, ...]  # the paths, below the folder that all of the data set have in common

    @cached_property
    def key(self) -> str:
        """Digest of what the block is made of. Raises: OSError for an original that is gone."""
        whole = hashlib.sha256(f"{self.split}\n".encode())
        for path, name, label in zip(self.paths, self.names, self.labels, strict=True):
            stat = path.stat()
            whole.update(os.fsencode(name) + f"\0{label}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return whole.hexdigest()

    @property
    def parts(self) -> Iterator[tuple[Path, ...]]:
        return (self.paths[start : start + _PART] for start in range(0, len(self.paths), _PART))


def pack(order: Order, show: Show) -> Done:
    """Write a packed store of a data set, from where an earlier call stopped.

    Raises: NotFound when no data set is called that; DataProblem when it cannot be packed, has more damaged images than
        `order.limit`, there is no room, or something else lies in the folder; StoreError when another process is
        packing into it.
    """
    known(order.name)
    draft = order.to.with_name(f".{order.to.name}.draft")
    try:
        source, data = _read(order)
        if not draft.exists() and (done := _already(order, source)) is not None:
            return done
        with locked(draft / "lock"):
            done = _already(order, source) or _pack(order, source, data, draft, show)
            shutil.rmtree(draft)
            return done
    except DataError as error:
        raise DataProblem(str(error), place=f"data set {order.name}", hint=error.hint) from error
    except OSError as error:
        fact = f"{error.filename or order.to}: {error.strerror or error}"
        raise DataProblem(fact, place=f"data set {order.name}", hint=_CONTINUES) from error


def _read(order: Order) -> tuple[str, DataSet]:
    """Return digest and content of what is to be packed. Raises: DataError when it is not of the kind."""
    root, to = order.root.resolve(), order.to.resolve()
    if root.is_relative_to(to) or to.is_relative_to(root):
        raise DataError(
            f"{to}: the store and the originals in {root} would lie in each other", hint="name another: --to DIR"
        )
    if is_store(order.root):
        raise DataError(f"{order.root}: this is a packed store", hint="pack the originals: --root DIR")
    module = datasets.module(order.name)
    source, data = module.digest(order.root), module.load(order.root)
    for split in data.splits.values():
        if split.scenes:
            # Detectors train at 480 to 800 pixels and are scored by the areas of the originals' objects.
            raise DataError("its boxes are in pixels of the originals", hint="only images with classes are packed")
        if not isinstance(split.images, Files):
            raise DataError("its images are not files, and are read as fast already", hint="use it as it is")
    return source, data


def _already(order: Order, source: str) -> Done | None:
    """Return what is there, if it is what would be packed. Raises: DataError when something else is."""
    to = order.to
    if not is_store(to):
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise DataError(f"{to}: something else is there", hint="name a folder that is not there yet: --to DIR")
        return None
    there = read(to)
    how = Shrinking(form=there.form, side=there.side, quality=there.quality)
    if (there.dataset, there.source, how) != (order.name, source, order.how):
        fact = f"a store of {there.dataset} as {there.form}, side {there.side}, quality {there.quality} is there"
        raise DataError(f"{to}: {fact}, or its originals changed", hint="remove it, or name another folder: --to DIR")
    return Done(sum(there.splits.values()), there.files[IMAGES].bytes, there.left_out, is_new=False)


def _pack(order: Order, source: str, data: DataSet, folder: Path, show: Show) -> Done:
    from PIL import __version__ as pillow

    batches = _batches(data)
    with Draft(folder, json.dumps([VERSION, pillow, asdict(order.how)])) as draft:
        draft.keep(batch.key for batch in batches)
        _require_room(order, batches, draft)
        _fill(order, batches, draft, show)
        if datasets.module(order.name).digest(order.root) != source:
            raise DataError("it changed while it was packed", hint=_CONTINUES)
        manifest = _manifest(order, source, data, _write_index(batches, draft), draft)
    _copy_lists(order.root, draft.store)
    write_synced(draft.store / MANIFEST, encode(manifest).encode())
    sync_folder(draft.store)
    draft.store.rename(order.to)
    sync_folder(order.to.parent)
    return Done(sum(manifest.splits.values()), draft.size_bytes, manifest.left_out, is_new=True)


def _batches(data: DataSet) -> list[_Batch]:
    files = {name: split.images.paths for name, split in data.splits.items() if isinstance(split.images, Files)}
    # What the first and the last path in alphabetical order have in common, all have.
    extremes = [edge(paths, key=str).parent for paths in files.values() for edge in (min, max)]
    start = len(os.path.commonpath(extremes))
    batches = []
    for name, paths in files.items():
        names, labels = [str(path)[start:].lstrip("/") for path in paths], data.splits[name].labels.tolist()
        for at in range(0, len(paths), BLOCK):
            end = at + BLOCK
            batches.append(_Batch(name, paths[at:end], tuple(labels[at:end]), tuple(names[at:end])))
    return batches


def _require_room(order: Order, batches: Sequence[_Batch], draft: Draft) -> None:
    """Raise DataError when the disk is too small for what is left to write, as a sample of the images tells."""
    paths = [path for batch in batches for path in batch.paths]
    made = shrink_files(paths[:: max(1, len(paths) // _SAMPLE)][:_SAMPLE], order.how)
    sizes = [len(each.content) for each in made if isinstance(each, Small)]
    needed = sum(sizes) / max(1, len(sizes)) * len(paths) * _MARGIN - draft.size_bytes
    free = shutil.disk_usage(draft.store).free
    if needed > free:
        fact = f"{order.to.parent}: about {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        raise DataError(fact, hint="name a folder on another disk: --to DIR; or a smaller --side, or --form jpeg")


def _fill(order: Order, batches: Sequence[_Batch], draft: Draft, show: Show) -> None:
    """Write the blocks that are left. Raises: DataError at one damaged image too many, naming it."""
    total = sum(len(batch.paths) for batch in batches)
    todo, done = batches[len(draft.blocks) :], sum(len(batch.paths) for batch in batches[: len(draft.blocks)])
    reasons = [reason for block in draft.blocks for reason in block.left_out.values()]
    _require_few(reasons, order.limit)
    show(done, total)
    # A batch's key is taken before its files are read: what changes after it is packed anew by the next call.
    parts = (part for batch in todo if batch.key for part in batch.parts)
    with closing(shrink_all(parts, order.how, workers=order.workers or os.cpu_count() or 1)) as made:
        for batch in todo:
            block = Block(key=batch.key)
            for place, small in enumerate(itertools.islice(made, len(batch.paths))):
                if isinstance(small, Small):
                    draft.add(block, small.content, small.height, small.width)
                else:
                    block.left_out[place] = small
                    reasons.append(small)
                    _require_few(reasons, order.limit)
                done += 1
                if done % _PART == 0 or done == total:
                    show(done, total)
            draft.close(block)


def _require_few(reasons: Sequence[str], limit: int) -> None:
    if len(reasons) > limit:
        hint = f"replace or remove the file, or leave such images out: --skip {len(reasons)}; {_CONTINUES}"
        raise DataError(reasons[limit], hint=hint)


def _write_index(batches: Sequence[_Batch], draft: Draft) -> tuple[dict[str, int], tuple[str, ...]]:
    """Write index and names of the images that are there; return their number by split, and who is left out."""
    images, labels, names, left_out = [], list[int](), list[str](), list[str]()
    counts = dict.fromkeys((batch.split for batch in batches), 0)
    for batch, block in zip(batches, draft.blocks, strict=True):
        there = [place for place in range(len(batch.paths)) if place not in block.left_out]
        images += block.images
        labels += [batch.labels[place] for place in there]
        names += [batch.names[place] for place in there]
        left_out += [batch.names[place] for place in block.left_out]
        counts[batch.split] += len(there)
    empty = next((split for split, count in counts.items() if not count), None)
    if empty is not None:
        raise DataError(f"no image of the split {empty} can be decoded", hint="is the data set whole?")
    offsets = itertools.accumulate((size for size, _, _ in images[:-1]), initial=0)
    index = packed.encode_index(offsets, ((height, width) for _, height, width in images), labels)
    write_synced(draft.store / INDEX, index)
    write_synced(draft.store / NAMES, packed.encode_names(names))
    return counts, tuple(left_out)


def _manifest(
    order: Order, source: str, data: DataSet, written: tuple[dict[str, int], tuple[str, ...]], draft: Draft
) -> Manifest:
    small = {name: Entry(*sha256_of(draft.store / name)) for name in (INDEX, NAMES)}
    return Manifest(
        form=order.how.form,
        side=order.how.side,
        quality=order.how.quality,
        dataset=order.name,
        source=source,
        classes=data.classes,
        splits=written[0],
        mean=data.mean,
        std=data.std,
        metric=data.metric,
        valid_size=data.valid_size,
        valid_per_class=data.valid_per_class,
        left_out=written[1],
        files={IMAGES: Entry(draft.size_bytes, draft.sha256), **small},
    )


def _copy_lists(root: Path, store: Path) -> None:
    """Take along the published lists of labels that lie beside the images."""
    for known_list in label_lists.IMAGENET_LISTS.values():
        path = root / label_lists.FOLDER / known_list.file
        if path.is_file():
            (store / label_lists.FOLDER).mkdir(exist_ok=True)
            write_synced(store / label_lists.FOLDER / known_list.file, path.read_bytes())
