"""Artifacts of finished stages: where they are, whether they are still what was uploaded.

A result carries a manifest with the sha256 of its files, and the run carries the sha256 of the manifest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from orchestration import records
from orchestration.errors import StoreError
from orchestration.records import RawRun
from orchestration.storage import MANIFEST, Digests, Home, inside, problem_of, read_manifest, sha256


class Artifacts:
    """The artifacts of one experiment, in a folder of this machine or behind a server."""

    def __init__(self, home: Home, *, root: str, download: Callable[[str, str, Path], Path]) -> None:
        """`root`: the experiment's artifact location; `download(run id, file, folder)` says where it put the file."""
        self._home, self._download = home, download
        self._root = local(root)

    def problems(self, finished: Iterable[RawRun]) -> dict[str, str]:
        """Return what is wrong, by run id; sound runs are left out, and remote ones, which `fetch` checks.

        Each file is hashed once, and again only if its size or time of change moved.
        """
        digests = Digests(self._home.path / "verified.json")
        found = {raw.run_id: problem for raw in finished if (problem := self._problem(raw, digests.of))}
        digests.save()
        return found

    def fetch(self, raw: RawRun, file: str) -> Path:
        """Return a path on this machine of a file of a finished stage, checked by sha256.

        Raises:
            StoreError: the run has no such file, or the file is missing or damaged.
        """
        digests = self.digests(raw)
        if file not in digests:
            hint = f"it has: {', '.join(sorted(digests))}"
            raise StoreError(f"its result has no file `{file}`", place=f"run {raw.run_id}", hint=hint)
        return self._checked(raw, file, digests[file])

    def check(self, raw: RawRun) -> dict[str, Path]:
        """Return the path on this machine of every file of a finished stage, by name; each is hashed anew.

        Raises:
            StoreError: the run has no result, or a file of it is missing or damaged.
        """
        return {file: self._checked(raw, file, digest) for file, digest in self.digests(raw).items()}

    def text(self, raw: RawRun, file: str) -> str | None:
        """Return a text that was kept with a run and is in no manifest, None where there is none.

        Raises:
            StoreError: it leads out of the store's folder, or is no text.
        """
        folder = self._folder(raw)
        with tempfile.TemporaryDirectory() as draft:
            path = inside(folder, file) if folder else self._download(raw.run_id, file, Path(draft))
            try:
                return path.read_text(encoding="utf-8")
            except FileNotFoundError:
                return None
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"`{file}` cannot be read", place=f"run {raw.run_id}") from error

    def digests(self, raw: RawRun) -> dict[str, str]:
        """Return sha256 by file of a run's result. Raises: StoreError."""
        if (digest := raw.tags.get(records.MANIFEST_SHA256)) is None:
            raise StoreError("it has no result: it did not finish", place=f"run {raw.run_id}")
        return read_manifest(self._checked(raw, MANIFEST, digest))

    def place(self, raw: RawRun) -> str:
        """Return the address of a run's artifacts. Raises: StoreError when that is a folder outside of the store's."""
        self._folder(raw)
        return raw.artifact_uri

    def _problem(self, raw: RawRun, digest_of: Callable[[Path], str]) -> str:
        if (digest := raw.tags.get(records.MANIFEST_SHA256)) is None:
            return "without a manifest"
        try:
            if (folder := self._folder(raw)) is None:
                return ""
            torn = problem_of(folder, {MANIFEST: digest}, digest_of)
            return torn or problem_of(folder, read_manifest(folder / MANIFEST), digest_of)
        except StoreError as error:  # one odd run must not hide the others
            return error.fact

    def _folder(self, raw: RawRun) -> Path | None:
        """Return the folder of a run's artifacts on this machine, None where a server keeps them.

        Raises:
            StoreError: it is not inside the experiment's folder; a store that says so would have us read any file.
        """
        folder = local(raw.artifact_uri)
        if folder is not None and (self._root is None or not folder.resolve().is_relative_to(self._root.resolve())):
            raise StoreError("outside the store's folder", place=f"run {raw.run_id}")
        return folder

    def _checked(self, raw: RawRun, file: str, digest: str) -> Path:
        """Return the path of an artifact with this sha256, downloaded if it is remote and not here yet."""
        folder = self._folder(raw)
        path = inside(folder, file) if folder else self._home.cached(digest, file)
        if folder is None and not (path.is_file() and sha256(path) == digest):
            self._bring(raw.run_id, file, path)
        if problem := problem_of(path.parent, {path.name: digest}):
            hint = "submit its pipeline again: the stage will rerun"
            raise StoreError(f"an artifact is {problem}", place=f"run {raw.run_id}", hint=hint)
        return path

    def _bring(self, run_id: str, file: str, into: Path) -> None:
        """Download an artifact; it appears under its name only when it is whole."""
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into.parent) as folder:
            self._download(run_id, file, Path(folder)).replace(into)


def local(uri: str) -> Path | None:
    """Return the folder that a `file:` URI or a plain path means, None for a remote one.

    >>> local("file:///home/ann/my%20runs"), local("s3://bucket/runs")
    (PosixPath('/home/ann/my runs'), None)
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme else Path(uri)
