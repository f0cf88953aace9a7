"""How packings are asked for in tests."""

from pathlib import Path

from leoclr.data import module
from leoclr.data.contract import DataSet
from leoclr.data.files import Files
from leoclr.data.shrinking import Shrinking
from orchestration.packing import Order

HOW = Shrinking(form="jpeg", side=8)


def quiet(done: int, total: int) -> None:
    pass


def order(root: Path, to: str = "packed", name: str = "folder", **more: object) -> Order:
    return Order(**{"name": name, "root": root, "to": root.parent / to, "how": HOW, "workers": 1, **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def originals(data: DataSet, split: str) -> tuple[Path, ...]:
    images = data.splits[split].images
    assert isinstance(images, Files)
    return images.paths


def damage(root: Path, *places: int) -> list[Path]:
    paths = [originals(module("folder").load(root), "train")[place] for place in places]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-100])
    return paths
