"""Where a published data set lies below the folder that the user names, and the lists of images that come with it.

An archive unpacks into a folder of its own; `root` may be that folder, or the one that it was unpacked in.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from leoclr.data.contract import DataError
from leoclr.data.files import Files, require_file

_SHOWN = 3  # missing images that a message names


def find(root: Path, *below: str, holds: str, hint: str) -> Path:
    """Return the folder that holds `holds`: `root`, or the first of the folders `below` it that does.

    Raises: DataError when there is none.
    """
    for folder in (root, *(root / name for name in below)):
        if (folder / holds).exists():
            return folder.resolve()
    if not root.is_dir():
        raise DataError(f"{root}: no such folder", hint=hint)
    raise DataError(f"{root}: there is no {holds}", hint=hint)


def read_lines(path: Path, hint: str) -> list[str]:
    """Return the lines of a text file that are not blank. Raises: DataError when it cannot be read."""
    try:
        require_file(path, path.stat())
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list: {error}", hint=hint) from error


def safe(name: str, source: Path) -> str:
    """Return `name`, a path relative to a folder of images. Raises: DataError when it leads out of that folder."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{source}: {name!r} does not name an image", hint="a listed name stays inside its folder")
    return name


def listed(folder: Path, names: Sequence[str], source: Path, hint: str) -> Files:
    """Return the images `names`, plain file names in `folder`, which `source` lists.

    Raises: DataError counting and naming those that are missing.
    """
    try:
        with os.scandir(folder) as entries:
            present = {entry.name for entry in entries}
    except OSError as error:
        raise DataError(f"{folder}: no such folder of images", hint=hint) from error
    missing = [name for name in names if safe(name, source) not in present]
    if missing:
        some = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{folder}: {len(missing)} of the {len(names)} images of {source.name} are missing: {some}", hint
        )
    return Files(tuple(folder / name for name in names))
