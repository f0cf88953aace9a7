"""Packed data sets in a bucket: `push` puts one there, `root` makes it readable here, through a cache of bounded size.

A store in a bucket has the files of one on disk (`leoclr.data.packed`). The small ones are brought, each checked by its
sha256; images.bin is read piece by piece. Its digest is that of its manifest, wherever it lies, so fingerprints and
numbers are those of the store on disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leoclr.data import elsewhere, label_lists, manifest, packed
from leoclr.data.contract import DataError
from leoclr.data.digest_cache import cache_home
from leoclr.data.manifest import IMAGES, MANIFEST, Manifest
from orchestration.blocks import Blocks
from orchestration.cluster import transfer
from orchestration.cluster.bucket import Bucket
from orchestration.cluster.objects import Objects
from orchestration.errors import DataProblem, StoreError
from orchestration.storage import sha256, write_atomic

CACHE = "LEOCLR_OPS_CACHE_BYTES"
CACHE_BYTES = 50_000_000_000  # ImageNet as JPEG files of 256 pixels is 30 GB: it fits with room to spare
BLOCK_BYTES = 1 << 20  # of a store that fits into the cache: each of its bytes is fetched once
SMALL_BYTES = 1 << 16  # of a larger one: of what is fetched, most is thrown away before it is asked for again

Show = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole store."""


@dataclass(slots=True, eq=False)
class Far:
    """Reads images.bin of one store in a bucket; a `leoclr.data.elsewhere.Reader`."""

    objects: Objects
    size: int  # of the file, bytes
    seal: str  # of the store: another content has other blocks
    blocks: Blocks
    block_bytes: int
    _process: int = 0  # a client does not survive a fork

    def __reduce__(self) -> tuple[object, ...]:
        return Far, (Objects(self.objects.bucket), self.size, self.seal, self.blocks, self.block_bytes)

    def read(self, start: int, end: int) -> NDArray[np.uint8]:
        """See `leoclr.data.elsewhere.Reader`."""
        size = self.block_bytes
        wanted = range(start // size, -(-end // size))
        pieces = {place: self._kept(place, start, end) for place in wanted}
        missing = [place for place in wanted if pieces[place] is None]
        if missing:
            pieces |= self._fetch(missing[0], missing[-1] + 1, start, end)
        whole = b"".join(piece for place in wanted if (piece := pieces[place]) is not None)
        return np.frombuffer(bytearray(whole), np.uint8)

    def _kept(self, place: int, start: int, end: int) -> bytes | None:
        first = place * self.block_bytes
        return self.blocks.read(self._name(place), max(start - first, 0), min(end - first, self.block_bytes))

    def _fetch(self, first: int, last: int, start: int, end: int) -> dict[int, bytes]:
        """Fetch blocks in one request, and keep them; return what of them is asked for."""
        size, found = self.block_bytes, dict[int, bytes]()
        if self._process != os.getpid():
            self.objects, self._process = Objects(self.objects.bucket), os.getpid()
        try:
            content = self.objects.read(IMAGES, first * size, min(last * size, self.size))
        except (StoreError, OSError) as error:
            raise DataError(f"{self.objects.place(IMAGES)}: {error}", hint="is the bucket up?") from error
        for place in range(first, last):
            block = content[(place - first) * size : (place - first + 1) * size]
            self._keep(place, block)
            found[place] = block[max(start - place * size, 0) : end - place * size]
        return found

    def _keep(self, place: int, block: bytes) -> None:
        """Keep a block; one that the disk does not take is fetched again when it is asked for."""
        try:
            self.blocks.write(self._name(place), block)
        except OSError as error:  # the same words each time, which Python says once in a process
            why = error.strerror or type(error).__name__
            warnings.warn(f"images from a bucket are not kept on this machine's disk: {why}", stacklevel=2)

    def _name(self, place: int) -> str:
        return f"{self.seal[:16]}-{self.block_bytes}-{place:08d}"


def root(address: str, folder: Path) -> Path:
    """Return a folder that stands for the store at `address`, made below `folder`; its images are read from there.

    Raises: DataError when there is no store, or it is not whole.
    """
    own = folder / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        objects = Objects(Bucket.of(address.rstrip("/")))
        found = objects.get(MANIFEST)
        if found is None:
            hint = f"put one there: leoclr-ops data push DIR {address}"
            raise DataError(f"{address}: there is no packed store", hint=hint)
        there = _bring(objects, found[0], own)
        stat = objects.stat(IMAGES)
    except StoreError as error:
        raise DataError(f"{address}: {error}", hint=error.hint) from error
    if stat is None or stat.bytes != there.files[IMAGES].bytes:
        raise DataError(f"{address}: {IMAGES} is not whole", hint="the same `data push` goes on where it stopped")
    limit = _limit()
    block = BLOCK_BYTES if stat.bytes <= limit else SMALL_BYTES
    blocks = Blocks(cache_home() / "blocks", limit)
    elsewhere.name(own, Far(objects, stat.bytes, there.seal, blocks, block))
    return own


def push(store: Path, address: str, show: Show) -> bool:
    """Put a packed store into a bucket, from where an earlier call stopped; False where it was there already.

    Raises: DataProblem when it is none, or damaged; StoreError.
    """
    try:
        own = manifest.read(store)
        if bad := packed.problems(store):
            raise DataProblem(bad[0], place=str(store), hint="pack the data set anew, or copy the store anew")
    except DataError as error:
        raise DataProblem(str(error), place=str(store), hint=error.hint) from error
    objects = Objects(Bucket.of(address.rstrip("/")))
    lists = sorted((store / label_lists.FOLDER).glob("*.txt"))
    files = [*(store / name for name in own.files), *lists, store / MANIFEST]  # the manifest comes last
    whole, done, is_new = sum(path.stat().st_size for path in files), 0, False

    def count(part: int) -> None:
        nonlocal done
        done += part
        show(done, whole)

    for path in files:
        name = path.relative_to(store).as_posix()
        digest = own.files[name].sha256 if name in own.files else sha256(path)
        with path.open("rb") as file:
            is_new |= transfer.upload(objects, file.fileno(), name, digest=digest, show=count)
    return is_new


def _bring(objects: Objects, text: bytes, folder: Path) -> Manifest:
    """Bring the small files of a store, unless they are here. Raises: DataError, StoreError."""
    path = folder / MANIFEST
    if path.exists() and path.read_bytes() == text:
        return manifest.read(folder)
    shutil.rmtree(folder, ignore_errors=True)  # of another content
    draft = folder.with_name(f".{folder.name}-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        write_atomic(draft / MANIFEST, text)
        there = manifest.read(draft)
        for name, entry in there.files.items():
            if name != IMAGES:
                transfer.download(objects, name, draft / name, digest=entry.sha256)
        for known in label_lists.IMAGENET_LISTS.values():
            if found := objects.get(f"{label_lists.FOLDER}/{known.file}"):
                write_atomic(draft / label_lists.FOLDER / known.file, found[0])
        if not folder.exists():  # another process was faster
            draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return there


def _limit() -> int:
    value = os.environ.get(CACHE) or str(CACHE_BYTES)
    if not value.isdigit() or int(value) < SMALL_BYTES:
        raise DataError(f"{CACHE}={value}: expected a number of bytes", hint=f"such as {CACHE_BYTES}")
    return int(value)
