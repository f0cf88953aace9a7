"""A packed store: the images of a data set, made small once and laid one after the other in a file that is mapped.

    packed.json    what it is, and size and sha256 of the other three: `manifest`
    images.bin     the images, split after split, in the order of the data set: JPEG files, or uint8 rows of R, G, B
    index.bin      a RECORD an image: where its bytes begin, its height and width, its label
    names.bin      the path of each original below their common folder, each ended by a zero byte

An image ends where the next one begins, so nothing that a store says leads out of images.bin. The bytes are a function
of the originals, the form and Pillow's version. Its pixels are not the originals', so its digest is another one.

Known for trouble in others' stores, and absent here: a reader that allocates a file's size (libffcv/ffcv, issue 146),
pages that an image must fit in (issue 135), an index that may be cut short unnoticed (mosaicml/streaming, issue 345).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from leoclr.data import elsewhere, label_lists
from leoclr.data.contract import UNLABELED, DataError, DataModule, DataSet, Split
from leoclr.data.decoding import decode
from leoclr.data.manifest import IMAGES, INDEX, NAMES, VERSION, Form, Manifest, is_store, read, sha256_of

RECORD = np.dtype([("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("label", "<i8")])
RULE = f"packed {VERSION}"
_LONGEST = 1 << 24  # pixels of a side: beyond it no picture lies, and three channels of a square still count in 64 bits
# A private mapping that may be written to is charged against memory in full unless it says otherwise, and 335 GB of
# ImageNet are refused. Python names the flag from 3.13 on: before, its value on x86 and ARM; macOS charges nothing.
_NO_RESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@dataclass(slots=True, eq=False)
class Packed:
    """Images of one split of a store; an `Images`. It is mapped by the first read, in each process for itself."""

    folder: Path
    form: Form
    offsets: NDArray[np.int64]  # [N + 1], bytes into images.bin; the last is where the last image ends
    sides_N2: NDArray[np.int64]  # height and width
    first: int  # place of the first image in the store
    reader: elsewhere.Reader | None = None  # of images.bin, where it does not lie in the folder
    _bytes: NDArray[np.uint8] | None = field(init=False, repr=False, default=None)

    def __len__(self) -> int:
        return len(self.sides_N2)

    def __reduce__(self) -> tuple[object, ...]:  # a mapping does not travel to another process
        return Packed, (self.folder, self.form, self.offsets, self.sides_N2, self.first, self.reader)

    @property
    def paths(self) -> tuple[PurePosixPath, ...]:
        """Paths of the originals, relative to the folder that they had in common. Raises: DataError."""
        return tuple(PurePosixPath(os.fsdecode(name)) for name in self._names()[self.first : self.first + len(self)])

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return image `index` as uint8 [H, W, 3].

        Of a raw store it is the mapped file itself: what is written to it stays in this process.
        Raises: DataError naming store and image when it cannot be decoded, or the store cannot be mapped.
        """
        place = range(len(self))[index]  # counts from the end below zero, as lists do, and ends there
        content_B = self._content(int(self.offsets[place]), int(self.offsets[place + 1]))
        height, width = self.sides_N2[place].tolist()
        if self.form == "raw":
            return content_B.reshape(height, width, 3)
        return self._decode(content_B, place, (height, width, 3))

    def _content(self, start: int, end: int) -> NDArray[np.uint8]:
        if self.reader is not None:
            return self.reader.read(start, end)
        if self._bytes is None:
            self._bytes = _map(self.folder / IMAGES, self.form)
        return self._bytes[start:end]

    def _decode(self, content_B: NDArray[np.uint8], place: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        try:
            image_HWC = decode(content_B, f"image {place}")
        except DataError as error:
            raise _damaged(self.folder, f"{error} ({self.paths[place]})") from error
        if image_HWC.shape != shape:
            raise _damaged(self.folder, f"image {place} has not the size of its index ({self.paths[place]})")
        return image_HWC

    def _names(self) -> list[bytes]:
        return _read_checked(self.folder, NAMES, read(self.folder)).split(b"\0")[:-1]


@dataclass
class Either:
    """A data set that lies in its own layout or in a packed store; a `DataModule`."""

    name: str
    own: DataModule

    def digest(self, root: Path) -> str:
        """Return the digest of the store that `root` is, or else of the data set's own layout. Raises: DataError."""
        return digest(root, self.name) if is_store(root) else self.own.digest(root)

    def load(self, root: Path) -> DataSet:
        """Return the data set from the store that `root` is, or else from its own layout. Raises: DataError."""
        return load(root, self.name) if is_store(root) else self.own.load(root)


def digest(root: Path, name: str) -> str:
    """Return the sha256 (hex) of a store of data set `name`, from its manifest alone, which holds those of its files.

    Raises: DataError when it is damaged, of another data set, or a file of it has not its size.
    """
    manifest = _open(root, name)
    return hashlib.sha256(f"{RULE}\n{manifest.seal}{label_lists.signature(root)}".encode()).hexdigest()


def load(root: Path, name: str) -> DataSet:
    """Return data set `name` as it was packed: classes, splits, labels, order, statistics; pixels wait to be read.

    Raises: DataError when the store is damaged, or of another data set.
    """
    manifest = _open(root, name)
    records = np.frombuffer(_read_checked(root, INDEX, manifest), RECORD)
    ends = np.append(records["offset"], np.uint64(manifest.files[IMAGES].bytes)).astype(np.int64)
    sides_N2 = np.stack((records["height"], records["width"]), axis=1).astype(np.int64)
    _require_inside(root, manifest, ends, sides_N2)
    labels = records["label"].astype(np.int64)
    if labels.min() < UNLABELED or labels.max() >= len(manifest.classes):
        raise _damaged(root, f"{INDEX} has labels beyond its {len(manifest.classes)} classes")
    splits, first = {}, 0
    for split, count in manifest.splits.items():
        last = first + count
        own = ends[first : last + 1], sides_N2[first:last], first
        images = Packed(root.resolve(), manifest.form, *own, elsewhere.reader_of(root))
        splits[split], first = Split(images, labels[first:last]), last
    return manifest.data_set(splits)


def problems(root: Path) -> list[str]:
    """Return what is wrong with the files of a store, every byte read; empty where nothing is.

    Raises: DataError when its manifest is damaged.
    """
    manifest = read(root)
    return [fact for name in manifest.files if (fact := _problem(root, name, manifest))]


def encode_index(offsets: Iterable[int], sides: Iterable[tuple[int, int]], labels: Iterable[int]) -> bytes:
    """Return the bytes of index.bin."""
    rows = [(offset, *side, label) for offset, side, label in zip(offsets, sides, labels, strict=True)]
    return np.array(rows, RECORD).tobytes()


def encode_names(names: Iterable[str]) -> bytes:
    """Return the bytes of names.bin."""
    return b"".join(os.fsencode(name) + b"\0" for name in names)


def _open(root: Path, name: str) -> Manifest:
    manifest = read(root)
    if manifest.dataset != name:
        hint = f"name it for {manifest.dataset}, or pack {name}: leoclr-ops data pack {name} --to DIR"
        raise DataError(f"{root}: this store holds {manifest.dataset}, not {name}", hint=hint)
    for file, entry in manifest.files.items():
        if file == IMAGES and elsewhere.reader_of(root) is not None:
            continue
        try:
            found = (root / file).stat().st_size
        except OSError as error:
            raise _damaged(root, f"{file} cannot be read: {error.strerror}") from error
        if found != entry.bytes:
            raise _damaged(root, f"{file} has {found:,} bytes, not {entry.bytes:,}")
    if manifest.files[INDEX].bytes != sum(manifest.splits.values()) * RECORD.itemsize:
        raise _damaged(root, f"{INDEX} has not a record for each of {sum(manifest.splits.values()):,} images")
    return manifest


def _require_inside(root: Path, manifest: Manifest, ends: NDArray[np.int64], sides_N2: NDArray[np.int64]) -> None:
    """Raise DataError unless every image lies in images.bin where the one before it ends, and has its size."""
    sizes = np.diff(ends)
    if ends[0] != 0 or ends.min() < 0 or sizes.min() < 1:
        raise _damaged(root, f"{INDEX} points outside of {IMAGES}")
    if sides_N2.min() < 1 or sides_N2.max() > _LONGEST:
        raise _damaged(root, f"{INDEX} has sides that no image has")
    if manifest.form == "raw" and (sizes != 3 * sides_N2.prod(axis=1)).any():
        raise _damaged(root, f"{INDEX} has sizes that do not go with their sides")


def _read_checked(root: Path, file: str, manifest: Manifest) -> bytes:
    """Return the bytes of a small file of a store. Raises: DataError when they are not those that were written."""
    try:
        content = (root / file).read_bytes()
    except OSError as error:
        raise _damaged(root, f"{file} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != manifest.files[file].sha256:
        raise _damaged(root, f"{file} has not its sha256")
    return content


def _problem(root: Path, file: str, manifest: Manifest) -> str:
    try:
        size, found = sha256_of(root / file)
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    entry = manifest.files[file]
    if size != entry.bytes:
        return f"{file} has {size:,} bytes, not {entry.bytes:,}"
    return "" if found == entry.sha256 else f"{file} has not its sha256"


def _map(path: Path, form: Form) -> NDArray[np.uint8]:
    """Return the bytes of a file, which come into memory when they are touched."""
    raw = form == "raw"
    flags, access = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | (mmap.PROT_WRITE if raw else 0)
    try:
        with path.open("rb") as stream:
            return np.frombuffer(mmap.mmap(stream.fileno(), 0, flags=flags, prot=access), np.uint8)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        hint = "where vm.overcommit_memory is 2, memory must hold the whole of a raw store; pack it as jpeg"
        raise DataError(f"{path}: cannot be mapped: {error}", hint=hint) from error


def _damaged(root: Path, fact: str) -> DataError:
    return DataError(f"{root}: a damaged store: {fact}", hint="pack the data set anew, or copy the store anew")
