"""The home folder and its files: where they lie, how they are written whole, locked and checked by sha256.

home/mlflow.db                    runs, params, metrics (SQLite)
home/artifacts/                   MLflow's artifact root
home/stages/<fingerprint>/        lock, run.json, journal.jsonl, log.txt, checkpoints/, result/
home/node/<fingerprint>/          with a mirror: what this node computes of a stage
home/submissions/<plan>.json      which MLflow run a plan is recorded in
home/data/<data set>/             generated data
home/stores/<address>/            the small files of a packed data set in a bucket
home/cache/<sha256>/<file>        artifacts brought from a remote store
home/verified.json                sha256 of files that were hashed already
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import filelock

from orchestration.errors import NotFound, StoreError

MANIFEST = "manifest.json"  # {"files": {file: {sha256, bytes}}} of all beside it; written last, so it commits a result
NODE = "node"  # the folder of a home in which a node computes, where there is a mirror
READ_BYTES = 1 << 20  # hashing a large file needs no more memory than this


class Busy(StoreError):  # it is a state of the lock, and no error to most callers
    """Another process holds the lock."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds the runs of one user or one cluster.

    Workers see it under the same path. With a mirror each node has one of its own there, and stages are exchanged
    through the mirror.
    """

    path: Path
    mirror: str = ""  # s3://bucket/prefix; "": all nodes see this folder

    @classmethod
    def default(cls) -> Home:
        """Return the home at $LEOCLR_OPS_HOME, else `.leoclr-ops` in the current folder; its mirror by its variable."""
        folder = expanded(os.environ.get("LEOCLR_OPS_HOME") or ".leoclr-ops", "LEOCLR_OPS_HOME").absolute()
        return cls(folder, os.environ.get("LEOCLR_OPS_MIRROR", "").strip())

    @property
    def database(self) -> Path:
        return self.path / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def stage(self, fingerprint: str) -> Path:
        """Return the folder of the stage with this fingerprint, as who submits and looks sees it."""
        return self.path / "stages" / safe_name(fingerprint)

    def work(self, fingerprint: str) -> Path:
        """Return the folder in which a worker computes the stage: the same, or with a mirror one of its node."""
        return self.path / NODE / safe_name(fingerprint) if self.mirror else self.stage(fingerprint)

    def submission(self, fingerprint: str) -> Path:
        """Return the file that says which run the plan with this fingerprint is recorded in."""
        return self.path / "submissions" / f"{safe_name(fingerprint)}.json"

    def data(self, dataset: str) -> Path:
        """Return the folder for the generated files of a data set."""
        return self.path / "data" / safe_name(dataset)

    @property
    def stores(self) -> Path:
        """The folder for the small files of packed data sets that lie in a bucket."""
        return self.path / "stores"

    def cached(self, digest: str, file: str) -> Path:
        """Return where an artifact with this sha256 is kept once it was brought from a remote store."""
        return self.path / "cache" / safe_name(digest) / PurePosixPath(file).name


def safe_name(name: str) -> str:
    """Return `name` if it can only name an entry of its folder.

    Raises:
        StoreError: it is empty, starts with a dot, or holds anything but letters, digits and `_ - .`.
    """
    if not name or name.startswith(".") or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in name):
        raise StoreError(f"{name!r} cannot be the name of a file")
    return name


def inside(folder: Path, file: str) -> Path:
    """Return the path of `file`, a relative POSIX path, inside `folder`.

    Raises:
        StoreError: the path is absolute, climbs with `..`, or leaves the folder through a symbolic link.
    """
    parts = PurePosixPath(file)
    if not file or parts.is_absolute() or ".." in parts.parts or "\\" in file or "\0" in file:
        raise StoreError(f"{file!r} is not a path inside a folder", place=str(folder))
    try:
        path = (folder / parts).resolve()
    except (OSError, ValueError) as error:  # too long a name, half a surrogate pair
        raise StoreError(f"{file[:80]!r} is not a path: {type(error).__name__}", place=str(folder)) from None
    if not path.is_relative_to(folder.resolve()):
        raise StoreError(f"{file!r} leads out of the folder", place=str(folder))
    return path


def root_of(value: str, folder: Path) -> Path:
    """Return where a data set lies: an absolute path, or an address in a bucket, which is kept as it is.

    Raises: RuntimeError for ~user that nobody is.

    >>> root_of("data", Path("/home/ann")), address(root_of("s3://bucket/packed", Path("/home/ann")))
    (PosixPath('/home/ann/data'), 's3://bucket/packed')
    """
    return Path(value) if value.startswith("s3:/") else (folder / Path(value).expanduser()).absolute()


def expanded(value: str | Path, place: str) -> Path:
    """Return a path with `~` and `~user` replaced; `place` is where it was said. Raises: NotFound for an unknown user.

    >>> expanded("data", "--root")
    PosixPath('data')
    """
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise NotFound(f"{str(value)!r} names the home of nobody here", place=place, hint="write it out") from None


def address(root: Path) -> str:
    """Return the address that the root of a data set is; "" for a folder. As a path it has lost a slash."""
    parts = root.parts
    return f"s3://{'/'.join(parts[1:])}" if len(parts) > 1 and parts[0] == "s3:" else ""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader, or a crash, never sees half of it. Creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise


@contextmanager
def locked(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` inside the `with` block; it is freed when the process ends, however it ends.

    Raises:
        Busy: another process still holds it after `wait_s` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=wait_s)
    except filelock.Timeout:
        raise Busy("another process holds this lock", place=str(path)) from None
    try:
        yield
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


class Digests:
    """sha256 of files, remembered in a file by path, size and time of change, so that nothing is hashed twice."""

    def __init__(self, memory: Path) -> None:
        self._memory, self._known, self._new = memory, _read_object(memory), False

    def of(self, path: Path) -> str:
        """Return the sha256 of `path`."""
        stat = path.stat()
        key = f"{path} {stat.st_size} {stat.st_mtime_ns}"
        if not isinstance(known := self._known.get(key), str):
            known = self._known[key] = sha256(path)
            self._new = True
        return known

    def save(self) -> None:
        """Write what was learned; another process' memory may be lost, which costs one hashing."""
        if self._new:
            write_atomic(self._memory, json.dumps(self._known))
            self._new = False


def _read_object(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # a memory: absent or damaged, it is learned again
        return {}
    return found if isinstance(found, dict) else {}


def read_manifest(path: Path) -> dict[str, str]:
    """Return sha256 by file of a result's manifest.

    Raises:
        StoreError: it is missing or not a manifest, or names a file outside its folder.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        digests = {str(file): str(entry["sha256"]) for file, entry in entries.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise StoreError(f"no readable manifest ({type(error).__name__})", place=str(path)) from error
    for file in digests:
        inside(path.parent, file)
    return digests


def problem_of(folder: Path, digests: Mapping[str, str], digest_of: Callable[[Path], str] = sha256) -> str:
    """Return what is wrong with the files of a folder, against sha256 by file; "" where nothing is."""
    for file, digest in digests.items():
        path = inside(folder, file)
        if not path.is_file():
            return f"missing ({file})"
        if digest_of(path) != digest:
            return f"damaged ({file})"
    return ""
