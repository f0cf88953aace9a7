"""What travels with a job as its working folder: the files that it reads, and our code where the nodes have it not.

    image          nothing but the files: the nodes' image has our package
    wheel          the packages that are installed here, as a wheel has them; also where they are a checkout
    working_tree   the files of this checkout as they are now; new ones too, unless git ignores them

Ray puts the working folder in front of the path of driver and workers.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

from orchestration.cluster import folders
from orchestration.errors import LeoclrOpsError

Code = Literal["image", "wheel", "working_tree"]

NAME = "leoclr-ops"
PACKAGES = ("leoclr", "jobs", "orchestration")
ROOT = Path(__file__).parents[2]  # the folder that holds them: site-packages, or a checkout
NEW = ("--others", "--exclude-standard")  # of `git ls-files`
MOST_BYTES = 50 << 20  # of all files together: our code has 2 MB
_WHEN = (1980, 1, 1, 0, 0, 0)  # the least that a zip can say: equal files are equal packages
_GIT_S = 60


def pack(files: Mapping[str, bytes], code: Code, root: Path = ROOT) -> tuple[str, bytes]:
    """Return the name and the content of the package with these files and our code; equal content has one name.

    Raises: LeoclrOpsError where `working_tree` is wanted and this is no checkout.
    """
    found = {**_CODE[code](root), **files}
    size = sum(map(len, found.values()))
    if size > MOST_BYTES:
        raise LeoclrOpsError(
            f"{size / 1e6:.0f} MB of files would be sent", place=str(root), hint="is this our package?"
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in sorted(found.items()):
            package.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)
    return f"{NAME}-{hashlib.sha256(buffer.getvalue()).hexdigest()[:32]}.zip", buffer.getvalue()


def _image(root: Path) -> dict[str, bytes]:
    return {}


def _wheel(root: Path) -> dict[str, bytes]:
    """Return the files of the packages, and those of `cluster/` where a wheel has them."""
    found = {path.relative_to(root).as_posix(): path.read_bytes() for name in PACKAGES for path in _files(root / name)}
    shipped = folders.files()
    place = "orchestration/cluster/files"
    found |= {f"{place}/{path.relative_to(shipped).as_posix()}": path.read_bytes() for path in _files(shipped)}
    return {**found, **_facts()}


def _working_tree(root: Path) -> dict[str, bytes]:
    names = _listed(root, "--cached", *NEW)
    if not names:
        hint = "run it from a git checkout that is installed with `--editable`, or write `code: wheel`"
        raise LeoclrOpsError("this is no git checkout", place=str(root), hint=hint)
    paths = {name: root / name for name in names}  # one that was removed, and not from git yet, is not there
    found = {name: path.read_bytes() for name, path in paths.items() if path.is_file() and not path.is_symlink()}
    return {**found, **_facts()}


def has_new(root: Path = ROOT) -> bool:
    """Return whether a checkout has files of ours that no commit has."""
    return bool(_listed(root, *NEW))


def _listed(root: Path, *which: str) -> list[str]:
    """Return the files of our packages that git lists; none where this is no checkout."""
    command = ["git", "-C", str(root), "ls-files", "-z", *which, "--", *PACKAGES, "cluster"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_S, check=True)  # noqa: S603  # the words are ours
    except (OSError, subprocess.SubprocessError):
        return []
    return [name for name in done.stdout.decode().split("\0") if name and not _is_hidden(name)]


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a package: neither hidden ones nor byte code, which is made for one Python."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _is_hidden(path.relative_to(folder).as_posix()):
            yield path


def _is_hidden(name: str) -> bool:
    return any(part == "__pycache__" or part.startswith(".") for part in name.split("/"))


def _facts() -> dict[str, bytes]:
    """Return the file by which Python knows the package's version."""
    known = metadata.metadata(NAME)
    text = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {known['Version']}\n"
    return {f"{NAME.replace('-', '_')}-{known['Version']}.dist-info/METADATA": text.encode()}


_CODE = {"image": _image, "wheel": _wheel, "working_tree": _working_tree}
