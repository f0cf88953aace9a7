"""Packed stores written by the description of their format; the writer shares no code with the program."""

import hashlib
import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from leoclr.data.contract import Images

CLASSES = ("cat", "dog")


def pictures(seed: int = 0) -> dict[str, list[tuple[np.ndarray, int, str]]]:
    """Return (picture [H, W, 3], label, name) of each image by split: sizes differ."""
    rng = np.random.default_rng(seed)
    sides = {"train": [(8, 9), (8, 8), (30, 8), (5, 7)], "test": [(8, 20), (2, 3)]}
    return {
        split: [
            (rng.integers(0, 256, (high, wide, 3), dtype=np.uint8), at % 2, f"{split}/{CLASSES[at % 2]}/n_{at}.png")
            for at, (high, wide) in enumerate(shapes)
        ]
        for split, shapes in sides.items()
    }


def jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write(root: Path, form: str = "raw", dataset: str = "folder", seed: int = 0) -> dict[str, list]:
    """Write a store; return its pictures."""
    root.mkdir(parents=True, exist_ok=True)
    shown = pictures(seed)
    images, index, names = b"", b"", b""
    for picture, label, name in (one for split in shown.values() for one in split):
        index += struct.pack("<QIIq", len(images), *picture.shape[:2], label)
        images += picture.tobytes() if form == "raw" else jpeg(picture)
        names += name.encode() + b"\0"
    content = {"images.bin": images, "index.bin": index, "names.bin": names}
    for name, data in content.items():
        (root / name).write_bytes(data)
    files = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items()}
    said = {"format": "leoclr-ops packed images", "version": 1, "form": form, "side": 8, "quality": 90}
    said |= {"dataset": dataset, "source": "0" * 64, "classes": list(CLASSES), "left_out": [], "files": files}
    said |= {"splits": [[split, len(each)] for split, each in shown.items()]}
    said |= {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3], "metric": "mean_per_class"}
    said |= {"valid_size": 2, "valid_per_class": None}
    seal(root, said)
    return shown


def content(images: Images) -> str:
    """Return a digest of the pixels of all images; here, since other processes import it."""
    return hashlib.sha256(b"".join(images.read(index).tobytes() for index in range(len(images)))).hexdigest()


def said(root: Path) -> dict:
    """Return what the manifest says, without its seal."""
    found = json.loads((root / "packed.json").read_text())
    del found["seal"]
    return found


def seal(root: Path, said: dict) -> None:
    """Write the manifest, sealed: the sha256 of its JSON with sorted keys."""
    whole = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    (root / "packed.json").write_text(json.dumps({**said, "seal": whole}))


def replace(root: Path, name: str, data: bytes) -> None:
    """Put other bytes into a file of the store, and into its manifest: a forged store, whole in itself."""
    (root / name).write_bytes(data)
    changed = said(root)
    changed["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    seal(root, changed)
