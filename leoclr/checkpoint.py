"""What a checkpoint is: a folder that is there whole or not at all, and that says which stage it belongs to.

    <root>/00000120/state.pt         tensors, numbers and strings only; read with weights_only=True
    <root>/00000120/manifest.json    format, fingerprint, position, and the sha256 of every other file

A folder is written under another name, flushed to disk and renamed: a reader sees all of it or nothing. A folder whose
bytes do not match its manifest (torn, flipped, truncated) is passed over in favor of the one before it. A trained trunk
leaves as safetensors, with what is needed to build it again in its header.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from leoclr import backbones

FORMAT = 1
KEEP = 2  # checkpoints of a running stage: the newest, and one before it in case that is damaged
MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be used; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stage has come: `step` steps of epoch `epoch` are done; `total` counts steps over all epochs."""

    epoch: int = 0
    step: int = 0
    total: int = 0


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, into: Path, **facts: Any) -> None:
    """Write the manifest of `folder` (its files' sha256 and `facts`), flush all to disk, rename it to `into`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in files
    }
    manifest = folder / MANIFEST
    said = {"format": FORMAT, **facts, "files": listing}
    manifest.write_text(json.dumps({**said, "seal": _seal_of(said)}, indent=1, sort_keys=True))
    for path in (*files, manifest, folder):
        _flush(path)
    shutil.rmtree(into, ignore_errors=True)
    folder.rename(into)
    _flush(into.parent)


def sealed(folder: Path, *, fingerprint: str) -> bool:
    """Return whether `folder` is whole: a manifest of this format is there and every file has the bytes it names.

    Raises: CheckpointError when it is whole but belongs to another fingerprint.
    """
    try:
        if not (folder / MANIFEST).is_file():  # to open a pipe may wait for ever
            return False
        manifest = json.loads((folder / MANIFEST).read_text())
        whole = manifest.pop("seal", None) in (None, _seal_of(manifest))  # None: it was written before there were seals
        for name, facts in manifest["files"].items():
            whole = whole and (folder / name).is_file() and sha256_of(folder / name) == facts["sha256"]
    # Torn or missing: the same as not there.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    if not whole or manifest.get("format") != FORMAT:
        return False
    if manifest.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{folder} belongs to fingerprint {manifest.get('fingerprint')}; this stage has {fingerprint}"
        )
    return True


def _seal_of(said: Mapping[str, Any]) -> str:
    """Return the sha256 of all that a manifest says, so that no digit of a position moves unnoticed."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def save(
    root: Path, state: Mapping[str, Any], position: Position, *, fingerprint: str, score: float | None = None
) -> Path:
    """Write a checkpoint below `root` and return its folder; `score`: how good it is, higher is better, if known."""
    folder, draft = root / f"{position.total:08d}", root / f".draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    torch.save(dict(state), draft / "state.pt")
    place = [position.epoch, position.step, position.total]
    seal(draft, folder, fingerprint=fingerprint, position=place, score=score)
    return folder


def tidy(root: Path, saved: Path, *, last: int = KEEP, best: int = 0) -> None:
    """Remove the checkpoints below `root` that are neither among the newest `last` nor the `best` by their scores.

    `saved` is the newest: those beyond it were passed over when the run continued, as damaged, and go too.
    """
    total = int(saved.name)
    scores = {int(folder.name): _score_in(folder) if best else None for folder in _folders(root)}
    beyond = {each for each in scores if each > total}
    kept = {each: score for each, score in scores.items() if each <= total}
    for each in beyond | expendable(kept, last=last, best=best):
        shutil.rmtree(root / f"{each:08d}", ignore_errors=True)


def expendable(scores: Mapping[int, float | None], *, last: int, best: int) -> set[int]:
    """Return which checkpoints may go, given their scores by their steps; of equal scores the newest is the best.

    >>> sorted(expendable({10: 0.9, 20: 0.4, 30: None, 40: 0.9, 50: 0.1}, last=1, best=1))
    [10, 20, 30]
    """
    newest = sorted(scores, reverse=True)
    ranked = sorted((total for total in newest if scores[total] is not None), key=lambda total: -(scores[total] or 0.0))
    return set(newest[last:]) - set(ranked[:best])


def score_of(manifest: Mapping[str, Any]) -> float | None:
    """Return the score in a checkpoint's manifest, None where it has none."""
    score = manifest.get("score")
    return float(score) if isinstance(score, int | float) else None


def latest(root: Path, *, fingerprint: str) -> tuple[Path, Position] | None:
    """Return the newest whole checkpoint below `root` and its position, or None.

    Raises: CheckpointError when it belongs to another fingerprint.
    """
    for folder in _folders(root):
        if sealed(folder, fingerprint=fingerprint):
            return folder, Position(*json.loads((folder / MANIFEST).read_text())["position"])
    return None


def load(folder: Path, *, device: torch.device) -> dict[str, Any]:
    """Return the state in `folder`; nothing in the file is executed."""
    state: dict[str, Any] = torch.load(folder / "state.pt", map_location=device, weights_only=True)
    return state


def save_backbone(path: Path, backbone: nn.Module, *, name: str, width: int, stem: str) -> None:
    """Write the trunk's weights as safetensors; its architecture goes into the header."""
    header = {"format": "pt", "leoclr_format": str(FORMAT), "backbone": name, "width": str(width), "stem": stem}
    save_file({key: value.contiguous() for key, value in backbone.state_dict().items()}, path, metadata=header)
    _in_order(path)


def load_backbone(path: Path) -> backbones.Backbone:
    """Return the trunk that `save_backbone` wrote, on the CPU.

    Raises: CheckpointError when the file does not say what it is or its tensors do not fit.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if file.get_slice("conv1.weight").get_shape()[:1] != [int(header["width"])]:  # before it takes that memory
                raise ValueError("its width is not that of its first convolution")
        trunk = backbones.build(header["backbone"], width=int(header["width"]), stem=header["stem"])
        trunk.load_state_dict(load_file(path))
    except (KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a backbone written by leoclr-ops: {error}") from error
    return trunk


def _in_order(path: Path) -> None:
    """Sort what a safetensors file says of itself, written in a hash table's order: equal weights are equal files."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
        if len(text) == size:
            file.seek(8)
            file.write(text)


def _score_in(folder: Path) -> float | None:
    try:
        return score_of(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, AttributeError):
        return None


def _folders(root: Path) -> Iterator[Path]:
    """Yield the finished checkpoint folders below `root`, newest first."""
    if root.is_dir():
        yield from sorted((p for p in root.iterdir() if p.name.isdigit()), key=lambda p: int(p.name), reverse=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
