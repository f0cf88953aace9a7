"""Images that cannot be decoded: found once, named, counted, and left out of their split where the policy allows it.

Every image file is decoded whole, so a file that is cut short is found. Verdicts are remembered in the user's cache
for a thousand consecutive images at a time, under the digest of their paths, sizes and times of change: a second pass
costs one look at each file's entry, an interrupted one goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from leoclr.data.contract import DataError, DataSet, Split
from leoclr.data.digest_cache import cache_home
from leoclr.data.files import Files

_CHUNK = 1000  # images under one verdict
_SHOWN = 10  # damaged files that a message names
_SETTLED_S = 2.0  # a file that changed this recently may change again within the same tick of its clock
_log = logging.getLogger("leoclr")


def without_corrupt(data: DataSet, *, limit: int) -> tuple[DataSet, tuple[str, ...]]:
    """Return `data` without the image files that cannot be decoded, and the paths of those.

    What is left keeps its order, so batches and labels are the same on every machine and after every restart. Images
    held in memory are taken as they are. The paths are logged by the logger "leoclr".

    Raises: DataError when more than `limit` images are damaged, naming the first.
    """
    found = unreadable(split.images for split in data.splits.values() if isinstance(split.images, Files))
    names = tuple(str(path) for path in found)
    if len(names) > limit:
        some = "".join(f"\n  {reason}" for reason in list(found.values())[:_SHOWN])
        raise DataError(
            f"{len(names)} images of {data.name} cannot be decoded, more than the {limit} that may be left out:{some}",
            hint="replace them, or raise `limit` of the param `corrupt`",
        )
    if names:
        _log.warning("%d damaged images of %s are left out: %s", len(names), data.name, ", ".join(names))
    return replace(data, splits={name: _without(split, set(found)) for name, split in data.splits.items()}), names


def unreadable(parts: Iterable[Files]) -> dict[Path, str]:
    """Return the image files that cannot be decoded, and why, in the order of `parts`; verdicts are remembered.

    Raises: DataError when the system cannot read a file.
    """
    memory = cache_home() / "image-verdicts.json"
    known = _recall(memory)
    found: dict[Path, str] = {}
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:  # Pillow decodes outside of Python's lock
        for paths in itertools.chain.from_iterable(map(_chunks, parts)):
            key, settled = _key(paths)
            verdict = known.get(key)
            if verdict is None:
                reasons = pool.map(_reason, paths)
                verdict = {str(index): reason for index, reason in enumerate(reasons) if reason}
                if settled:
                    known = {**_recall(memory), key: verdict}  # others may have written meanwhile
                    _remember(memory, known)
            found.update((paths[int(index)], reason) for index, reason in verdict.items())
    return found


def _chunks(files: Files) -> list[Sequence[Path]]:
    return [files.paths[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]


def _key(paths: Sequence[Path]) -> tuple[str, bool]:
    """Return the digest of paths, sizes and times of change, and whether no file changed just now."""
    whole, latest = hashlib.sha256(), 0.0
    for path in paths:
        try:
            stat = path.stat()
            whole.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            latest = max(latest, stat.st_mtime)
        except OSError:  # to read it raises, and says why
            latest = float("inf")
    return whole.hexdigest(), time.time() - latest > _SETTLED_S


def _reason(path: Path) -> str:
    """Return why an image cannot be decoded, or nothing.

    Raises: DataError when the system cannot read the file: that may pass, and other workers may see it otherwise.
    """
    try:
        Files((path,)).read(0)
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise
        return str(error)
    return ""


def _without(split: Split, bad: set[Path]) -> Split:
    if not isinstance(split.images, Files) or not bad.intersection(split.images.paths):
        return split
    kept = [row for row, path in enumerate(split.images.paths) if path not in bad]
    if not kept:
        raise DataError("no image of a split can be decoded", hint="is the data set whole?")
    return Split(
        Files(tuple(split.images.paths[row] for row in kept)),
        split.labels[np.array(kept)] if len(split.labels) else split.labels,
        tuple(split.scenes[row] for row in kept) if split.scenes else (),
    )


def _recall(memory: Path) -> dict[str, dict[str, str]]:
    try:
        entries = json.loads(memory.read_text(encoding="utf-8")).items()
        return {str(key): {str(int(row)): str(reason) for row, reason in verdict.items()} for key, verdict in entries}
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: nothing is remembered
        return {}


def _remember(memory: Path, known: dict[str, dict[str, str]]) -> None:
    draft = memory.with_suffix(f".{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(memory)  # whole or not at all, whoever else writes
    except OSError as error:  # a read-only home: only time is lost
        warnings.warn(f"verdicts on images are not remembered: {error}", stacklevel=2)
