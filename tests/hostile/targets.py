"""Every door that input from outside comes in by, with a strategy for what comes and what reads it.

A target is set up once in a folder of its own, and then gives "accepted" or "refused" for each input (`watch.outcome`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st

from leoclr import checkpoint, formats
from leoclr.data.files import Files
from orchestration import download, matrix, spec, storage
from orchestration.cluster import find, profile
from orchestration.sweep import spec as sweep_spec
from orchestration.table import read as table_read
from tests.hostile import archives, documents, folders, pictures, watch, weights
from tests.leoclr.data import trees

Act = Callable[[Any], str]


class Target(NamedTuple):
    """A door."""

    inputs: st.SearchStrategy[Any]
    open: Callable[[Path], Act]  # in a folder of its own
    share: int = 4  # of all inputs: doors that are wide or slow get more or fewer


def _document(load: Callable[[Path], object]) -> Callable[[Path], Act]:
    def begin(root: Path) -> Act:
        path = root / "p.yaml"

        def act(content: bytes) -> str:
            path.write_bytes(content)
            return watch.outcome(lambda: load(path), root)

        return act

    return begin


def _reference(load: Callable[[str], object]) -> Callable[[Path], Act]:
    return lambda root: lambda name: watch.outcome(lambda: load(name), root)


def _override(root: Path) -> Act:
    return lambda text: watch.outcome(lambda: spec.load("quickstart", [text]), root)


def _image(root: Path) -> Act:
    path = root / "image.jpg"  # whatever it is

    def act(content: bytes) -> str:
        path.write_bytes(content)
        return watch.outcome(lambda: Files((path,)).read(0), root)

    return act


def _weights(root: Path) -> Act:
    def act(given: tuple[str, bytes]) -> str:
        path = root / f"weights.{given[0]}"
        path.write_bytes(given[1])
        return watch.outcome(lambda: formats.read(path).build(), root)

    return act


def _sealed(root: Path) -> Act:
    """Flip, cut or forge a file of a sealed checkpoint: what is not whole is passed over, and nothing is loaded."""
    source = root / "source"

    def act(given: tuple[int, Callable[[Path], None]]) -> str:
        shutil.rmtree(source, ignore_errors=True)
        for total in (1, 2):
            state = {"work": {"weight": torch.arange(4.0)}, "total": total}
            checkpoint.save(source, state, checkpoint.Position(0, total, total), fingerprint="ab")
        newest = source / "00000002"
        given[1](newest / ("state.pt", "manifest.json")[given[0] % 2])

        def read() -> None:
            found = checkpoint.latest(source, fingerprint="ab")
            assert found is not None
            assert checkpoint.load(found[0], device=torch.device("cpu"))["total"] == found[1].total

        return watch.outcome(read, root)

    return act


def _archive(root: Path) -> Act:
    path, folder = root / "archive", root / "in" / "to"

    def act(content: bytes) -> str:
        path.write_bytes(content)
        shutil.rmtree(folder.parent, ignore_errors=True)
        folder.mkdir(parents=True)
        ended = watch.outcome(lambda: download.unpack(path, folder), folder)
        assert [each.name for each in folder.parent.iterdir()] == ["to"]
        return ended

    return act


def _tree(name: str) -> Callable[[Path], Act]:
    def begin(root: Path) -> Act:
        tree = folders.Tree(name, root)

        def act(given: tuple[int, Callable[[Path], None]]) -> str:
            spoilt = tree.spoil(tree.files[given[0] % len(tree.files)], given[1])
            return watch.outcome(lambda: folders.read(name, spoilt), root)

        return act

    return begin


def _manifest(form: str) -> Callable[[Path], Act]:
    def begin(root: Path) -> Act:
        store = root / "store"
        fields = sorted(folders.store(store, form))

        def act(given: tuple[int, Any, bool]) -> str:
            folders.store(store, form)
            folders.forge(store, fields[given[0] % len(fields)], given[1], seal=given[2])
            return watch.outcome(lambda: folders.read("folder", store), root)

        return act

    return begin


def _record(root: Path) -> Act:
    store = root / "store"

    def act(given: tuple[int, int, int, int, int]) -> str:
        folders.store(store, "jpeg" if given[0] % 2 else "raw")
        folders.forge_record(store, given[0], given[1:])
        return watch.outcome(lambda: folders.read("folder", store), root)

    return act


def _inside(name: str) -> None:
    storage.inside(Path.cwd(), name)


_names = st.one_of(st.sampled_from(documents.ODD_TEXT), st.text(max_size=40), st.sampled_from(os.listdir("/")))  # noqa: PTH208
_sides = st.sampled_from((0, 1, 2, 3, 8, 255, 1 << 24, 1 << 31, (1 << 32) - 1))
_offsets = st.sampled_from((0, 1, 5, 1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1))
_labels = st.sampled_from((0, 1, 2, -1, -2, 1 << 62, -(1 << 63)))
_which = st.integers(0, 10**6)
_fields = st.tuples(_which, st.sampled_from(documents.ODD_VALUES), st.booleans())
_paths = st.sampled_from(("pretrain.params.lr", "linear.params", "matrix.seed", "name", "data.coco", "table", "x.y"))
_overrides = st.builds(
    "{}={}".format, st.one_of(_paths, _names), st.sampled_from(documents.ODD_TEXT + documents.PIECES)
)

TARGETS: Mapping[str, Target] = {
    "pipeline file": Target(documents.files("pipeline"), _document(lambda path: spec.load(str(path))), share=8),
    "sweep file": Target(documents.files("sweep"), _document(lambda path: sweep_spec.load(str(path))), share=8),
    "table file": Target(documents.files("table"), _document(lambda path: table_read.load(str(path))), share=8),
    "cluster profile": Target(documents.files("profile"), _document(profile.load), share=8),
    "--set": Target(_overrides, _override, share=2),
    "PATH=VALUE": Target(_overrides, _reference(matrix.parse), share=8),
    "name of a pipeline": Target(_names, _reference(spec.load), share=2),
    "name of a sweep": Target(_names, _reference(sweep_spec.load), share=2),
    "name of a table": Target(_names, _reference(table_read.load), share=2),
    "name of a cluster": Target(_names, _reference(find.load), share=2),
    "name of a file": Target(_names, _reference(storage.safe_name), share=2),
    "path in a manifest": Target(_names, _reference(_inside), share=2),
    "image": Target(pictures.files(), _image, share=20),
    "checkpoint of others": Target(weights.files(), _weights, share=8),
    "checkpoint of ours": Target(folders.spoils(), _sealed, share=4),
    "archive": Target(archives.files(), _archive, share=8),
    "packed manifest, raw": Target(_fields, _manifest("raw")),
    "packed manifest, jpeg": Target(_fields, _manifest("jpeg")),
    "packed index": Target(st.tuples(_which, _offsets, _sides, _sides, _labels), _record),
    **{f"data set {name}": Target(folders.spoils(), _tree(name), share=2) for name in trees.WRITERS},
}
