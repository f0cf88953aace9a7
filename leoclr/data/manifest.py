"""The manifest of a packed store, packed.json: what it holds, and size and sha256 of its files. The files: `packed`.

It carries the sha256 of itself (`seal`), so that no bit of it moves unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from leoclr.data.contract import DataError, DataSet, Split

MANIFEST = "packed.json"  # no other tool writes a file of this name, so no folder of images is taken for a store
IMAGES, INDEX, NAMES = "images.bin", "index.bin", "names.bin"
FORMAT = "leoclr-ops packed images"
VERSION = 1
Form = Literal["jpeg", "raw"]
"""jpeg: JPEG files; raw: pixels."""

Metric = Literal["top1", "mean_per_class", "map11"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file of a store must be."""

    bytes: int
    sha256: str  # hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a store says of itself."""

    form: Form
    side: int  # the shorter side of every image is at most this, pixels
    quality: int  # of the JPEG files that were written anew, 1 to 95
    dataset: str
    source: str  # digest of the data set that was packed
    classes: tuple[str, ...]
    splits: Mapping[str, int]  # images of each, in their order in the store
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    metric: Metric
    valid_size: int | None
    valid_per_class: int | None
    left_out: tuple[str, ...]  # paths of originals that could not be decoded
    files: Mapping[str, Entry]

    @property
    def seal(self) -> str:
        """sha256 (hex) of all that it says."""
        return hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode()).hexdigest()

    def data_set(self, splits: Mapping[str, Split]) -> DataSet:
        """Return the data set that was packed, with these splits."""
        return DataSet(
            self.dataset,
            self.classes,
            splits,
            self.mean,
            self.std,
            metric=self.metric,
            valid_size=self.valid_size,
            valid_per_class=self.valid_per_class,
        )


def is_store(root: Path) -> bool:
    """Return whether `root` is a packed store, whole or not."""
    return (root / MANIFEST).is_file()


def encode(manifest: Manifest) -> str:
    """Return the text of packed.json."""
    return json.dumps({**_plain(manifest), "seal": manifest.seal}, indent=1, sort_keys=True) + "\n"


def read(root: Path) -> Manifest:
    """Return the manifest of the store `root`.

    Raises: DataError when it is damaged, or of a later version than this program knows.
    """
    path = root / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        _require_version(path, found)
        manifest = _parse(found)
        seal = found["seal"]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint="is the store whole?") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(path) from error
    if seal != manifest.seal:
        raise _damaged(path)
    return manifest


def sha256_of(path: Path) -> tuple[int, str]:
    """Return size in bytes and sha256 (hex) of a file. Raises: OSError."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return stream.tell(), digest


def _require_version(path: Path, found: Mapping[str, Any]) -> None:
    version = found["version"]
    if found["format"] != FORMAT or not isinstance(version, int):
        raise _damaged(path)
    if version != VERSION:
        fact = f"a store of version {version}, this program reads version {VERSION}"
        raise DataError(f"{path}: {fact}", hint="update leoclr-ops, or pack the data set anew")


def _parse(found: Mapping[str, Any]) -> Manifest:
    """Return the manifest of its JSON. Raises: ValueError, KeyError, TypeError or AttributeError when it is none."""
    splits = {str(name): _count(count, least=1) for name, count in found["splits"]}
    if not {"train", "test"} <= set(splits):
        raise ValueError("splits: there is no train, or no test")
    return Manifest(
        form=cast(Form, _one_of(found["form"], get_args(Form))),
        side=_count(found["side"], least=1),
        quality=_count(found["quality"], least=1),
        dataset=str(found["dataset"]),
        source=str(found["source"]),
        classes=tuple(map(str, found["classes"])),
        splits=splits,
        mean=_channels(found["mean"]),
        std=_channels(found["std"]),
        metric=cast(Metric, _one_of(found["metric"], get_args(Metric))),
        valid_size=None if found["valid_size"] is None else _count(found["valid_size"], least=1),
        valid_per_class=None if found["valid_per_class"] is None else _count(found["valid_per_class"], least=1),
        left_out=tuple(map(str, found["left_out"])),
        files={name: _entry(found["files"][name]) for name in (IMAGES, INDEX, NAMES)},
    )


def _count(value: object, *, least: int) -> int:
    if type(value) is not int or not least <= value < 1 << 62:
        raise ValueError(f"{value!r} is no count")
    return value


def _one_of(value: object, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return str(value)


def _channels(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _entry(found: Mapping[str, Any]) -> Entry:
    return Entry(_count(found["bytes"], least=1), str(found["sha256"]))


def _plain(manifest: Manifest) -> dict[str, Any]:
    # `splits` as pairs: their order is that of the images, and the seal sorts keys.
    return {
        "format": FORMAT,
        "version": VERSION,
        **asdict(manifest),
        "splits": list(map(list, manifest.splits.items())),
    }


def _damaged(path: Path) -> DataError:
    return DataError(f"{path}: a damaged manifest", hint="pack the data set anew, or copy the store anew")
