"""The mirror: what stages leave, in a bucket, so that another node or another cluster goes on from there.

    stages/<fingerprint>/lease                      which driver has the stage (`leases`)
    stages/<fingerprint>/attempt                    which worker writes it: an older one finds out and ends
    stages/<fingerprint>/run.json                   the MLflow run that it is recorded in
    stages/<fingerprint>/journal.jsonl, log.txt     as far as they were written some seconds ago
    stages/<fingerprint>/checkpoints/00000120/<sha256>/state.pt, .../manifest.json
    stages/<fingerprint>/result/<sha256>/<file>, .../manifest.json
    submissions/<plan>.json                         the MLflow run of a plan
    cache/<sha256>/<file>                           what stages start from

A sealed folder is there once its manifest is, which is written last. A file of it lies under its own sha256, so that
two writers can never make one folder of their halves. Keys are the paths below the home; on a node a stage is computed
in `node/` of its home, and a driver sees it in `stages/`.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from leoclr import checkpoint
from orchestration.cluster import transfer
from orchestration.cluster.bucket import Bucket
from orchestration.cluster.objects import Objects
from orchestration.cluster.transfer import Damaged
from orchestration.storage import MANIFEST, NODE, Home, inside, sha256, write_atomic

JOURNAL, LOG, RUN, ATTEMPT = "journal.jsonl", "log.txt", "run.json", "attempt"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Mirror:
    """One home's mirror. All methods raise StoreError where the bucket does not answer."""

    objects: Objects
    home: Path

    def key(self, path: Path) -> str:
        """Return the key of a path below the home."""
        first, *rest = path.relative_to(self.home).parts
        return "/".join(["stages" if first == NODE else first, *rest])

    def manifest(self, folder: Path) -> str | None:
        """Return the manifest of a sealed folder, None where it is not there."""
        found = self.objects.get(f"{self.key(folder)}/{MANIFEST}")
        return found[0].decode(errors="replace") if found else None

    def send(self, opened: Opened) -> None:
        """Bring a sealed folder there, its manifest excepted; what is there already is not sent again."""
        for file, (handle, digest) in opened.files.items():
            transfer.upload(self.objects, handle, f"{self.key(opened.folder)}/{digest}/{file}", digest=digest)

    def seal(self, opened: Opened) -> None:
        """Write the manifest of a folder that was sent: from now on it is there."""
        self.objects.put(f"{self.key(opened.folder)}/{MANIFEST}", opened.manifest.encode())

    def fetch(self, folder: Path, *, fingerprint: str) -> bool:
        """Bring a sealed folder here, whole or not at all; False where there is none of this fingerprint.

        Raises: Damaged when it is not what its manifest says.
        """
        if (text := self.manifest(folder)) is None:
            return False
        files = _files(text, fingerprint, self.objects.place(self.key(folder)))
        if files is None:
            return False
        mark = ".result" if folder.name == "result" else ".draft"
        draft = folder.parent / f"{mark}-{os.getpid()}-{folder.name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            for file, digest in files.items():
                key = f"{self.key(folder)}/{digest}/{file}"
                transfer.download(self.objects, key, inside(draft, file), digest=digest)
            write_atomic(draft / MANIFEST, text)
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True

    def checkpoints(self, stage: Path) -> list[Path]:
        """Return the checkpoints of a stage that are there whole, as paths here, newest first."""
        start, end = f"{self.key(stage)}/checkpoints/", f"/{MANIFEST}"
        names = [
            each.key.removeprefix(start).removesuffix(end)
            for each in self.objects.list(start)
            if each.key.endswith(end)
        ]
        numbers = sorted((name for name in names if name.isdecimal()), key=int, reverse=True)
        return [stage / "checkpoints" / name for name in numbers]

    def score(self, folder: Path) -> float | None:
        """Return the score in the manifest of a checkpoint, None where it has none."""
        try:
            return checkpoint.score_of(json.loads(self.manifest(folder) or "{}"))
        except ValueError:
            return None

    def drop(self, *folders: Path) -> None:
        """Remove folders: manifests first, so that no half of one is taken for a whole."""
        keys = [each.key for folder in folders for each in self.objects.list(f"{self.key(folder)}/")]
        self.objects.delete(sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")))

    def share(self, path: Path, home: Home) -> Path:
        """Bring a file that stages start from there; return its path on every node that has asked for it."""
        digest = sha256(path)
        shared = home.cached(digest, path.name)
        with path.open("rb") as file:
            transfer.upload(self.objects, file.fileno(), self.key(shared), digest=digest)
        return shared

    def bring(self, path: Path) -> None:
        """Bring a file that is there; nothing where it is not. One in the cache has the sha256 that its folder says."""
        key = self.key(path)
        there = self.objects.stat(key)
        if there is None:
            return
        if key.startswith("cache/"):
            transfer.download(self.objects, key, path, digest=path.parent.name)
        elif found := self.objects.get(key):
            write_atomic(path, found[0])


class Opened:
    """A sealed folder whose files are open: it may be removed while it is sent."""

    def __init__(self, folder: Path) -> None:
        """Open all files. Raises: OSError, ValueError or KeyError where the folder is gone or not sealed."""
        self.folder = folder
        self.manifest = (folder / MANIFEST).read_text(encoding="utf-8")
        listed: Mapping[str, Any] = json.loads(self.manifest)["files"]
        self._open = ExitStack()
        with ExitStack() as stack:
            files = {name: stack.enter_context(inside(folder, name).open("rb")) for name in listed}
            self._open = stack.pop_all()
        self.files = {name: (file.fileno(), str(listed[name]["sha256"])) for name, file in files.items()}

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


@functools.cache
def of(home: Home) -> Mirror | None:
    """Return the mirror of a home, None where it has none. Raises: StoreError when its address is none."""
    return Mirror(Objects(Bucket.of(home.mirror)), home.path) if home.mirror else None


def whole_lines(content: bytes) -> bytes:
    """Return what a file holds up to its last whole line."""
    return content[: content.rfind(b"\n") + 1]


def _files(text: str, fingerprint: str, place: str) -> dict[str, str] | None:
    """Return sha256 by file of a manifest, None where it is another fingerprint's. Raises: Damaged."""
    try:
        manifest = json.loads(text)
        files = {str(name): str(facts["sha256"]) for name, facts in manifest["files"].items()}
        own = str(manifest["fingerprint"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged("its manifest cannot be read", place=place) from error
    if not all(_SHA256.fullmatch(digest) for digest in files.values()) or MANIFEST in files:
        raise Damaged("its manifest is none of ours", place=place)
    return files if own == fingerprint else None
