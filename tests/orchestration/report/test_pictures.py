"""The images of a report are those that training saw, and the neighbors those that a plain search finds."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from leoclr import backbones, checkpoint
from leoclr.augment.evaluation import evaluation_views
from leoclr.augment.loader import ViewLoader
from leoclr.augment.views import View
from leoclr.data import mnist5k
from leoclr.data.contract import DataSet, Stack
from leoclr.methods import moco_v2
from orchestration.records import StageRun
from orchestration.report import neighbors, pixels, views
from orchestration.report.shelf import Absent

PARAMS = {"method": "moco_v2", "dataset": "mnist5k", "seed": 3, "image_size": 28, "epochs": 1, "batch": 64}


def run(method: str = "moco_v2", status: str = "FINISHED") -> StageRun:
    params = PARAMS | {"method": method}
    return StageRun("a" * 32, "pretrain", "pretrain", "", status, {}, {}, params, 0, 0, "b" * 32)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return mnist5k.load(tmp_path_factory.mktemp("data"))


def pixels_of(sheet: pixels.Sheet) -> np.ndarray:  # type: ignore[type-arg]
    kind, _, text = sheet.source.partition(";base64,")
    assert kind == "data:image/png"
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert found.shape[:2] == (sheet.height, sheet.width)
    return found


def test_the_views_are_those_of_the_first_epoch(data: DataSet) -> None:
    seen = views.seen(run(), data)
    chosen = [int(np.flatnonzero(data.splits["train"].labels == label)[0]) for label in range(views.IMAGES)]
    made = moco_v2.views(moco_v2.Config(), 28)
    assert isinstance(data.splits["train"].images, Stack)  # as training reads it
    loader = ViewLoader(data.splits["train"].images, made, mean=data.mean, std=data.std, seed=3, device="cpu")
    (batch,) = loader.batches(0, [np.array(chosen)])
    page, side = pixels_of(seen.sheet), 28 * 3
    for i, index in enumerate(chosen):
        rows = slice(i * (side + pixels.GAP), i * (side + pixels.GAP) + side, 3)
        shown = page[rows, :side:3, :3]
        assert (shown == data.splits["train"].images.read(index)).all()
        for j, view_NCHW in enumerate(batch, 1):
            levels = 255 * (view_NCHW[i].permute(1, 2, 0).numpy() * np.array(data.std) + np.array(data.mean))
            left = j * (side + pixels.GAP)
            shown = page[rows, left : left + side : 3, :3]
            assert (
                np.abs(shown - levels.clip(0, 255)).max() < 3
            )  # a crop of decoded images is rounded before its colors
    assert len(seen.views) == 2
    assert seen.views[0].startswith(
        "28 px: crop of 20 to 100 % of the area, color jitter 0.4/0.4/0.4/0.1 (p 0.8), gray"
    )


def test_a_control_saw_nothing(data: DataSet) -> None:
    with pytest.raises(Absent, match="never trained"):
        views.seen(run("random"), data)


def test_a_view_in_words() -> None:
    plain = View(size=32, crop_scale=None, jitter_p=0.0, gray_p=0.0, blur_p=0.0, flip_p=0.0, strong="paper")
    assert views.in_words(plain) == "32 px: the whole image, 5 strong operations (p 0.5 each)"


class Shop:
    """A store with one checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self, run_id: str, file: str) -> Path:
        return self._path


def test_neighbors_are_those_of_a_plain_search(data: DataSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = backbones.build("resnet18", width=2, stem="stride2")
    checkpoint.save_backbone(tmp_path / "b.safetensors", trunk, name="resnet18", width=2, stem="stride2")
    near = neighbors.near(run(), Shop(tmp_path / "b.safetensors"), data)  # type: ignore[arg-type]
    train, test = data.splits["train"], data.splits["test"]
    bank = np.unique(np.linspace(0, len(train) - 1, 2000).round().astype(int))
    wanted = np.unique(np.linspace(0, 9, 5).round().astype(int))
    queries = np.array([np.flatnonzero(test.labels == label)[0] for label in wanted])
    rows = []
    for split, chosen in ((train, bank), (test, queries)):
        view = neighbors._view(28)
        images = evaluation_views(split.images, chosen, view, mean=data.mean, std=data.std, device="cpu")
        with torch.no_grad():
            found = trunk.eval()(images).double().numpy()
        rows.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    expected = np.argsort(-(rows[1] @ rows[0].T), axis=1, kind="stable")[:, : neighbors.K]
    names = [tuple(data.classes[train.labels[bank[each]]] for each in row) for row in expected]
    assert [own for own, _ in near.classes] == [data.classes[label] for label in wanted]
    assert [each for _, each in near.classes] == names
    assert near.agree == (sum(own == each for own, row in near.classes for each in row), 40)
    assert near.bank == 2000


def test_an_unfinished_run_has_no_neighbors(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(Absent, match="not finished"):
        neighbors.near(run(status="FAILED"), Shop(tmp_path), data)  # type: ignore[arg-type]


def test_a_file_that_is_no_checkpoint_is_told(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    with pytest.raises(Absent, match="its checkpoint cannot be used"):
        neighbors.near(run(), Shop(tmp_path / "b.safetensors"), data)  # type: ignore[arg-type]


def test_large_images_are_made_smaller_and_marks_are_drawn() -> None:
    big = np.full((300, 200, 3), 7, np.uint8)
    sheet = pixels.sheet([[big, big], [big, big]], [[None, True], [False, None]])
    assert sheet.source.startswith("data:image/webp;base64,")
    assert sheet.width == 2 * pixels.MOST + pixels.GAP
    small = pixels_of(pixels.sheet([[big[:32, :32], big[:32, :32]]], [[True, False]]))
    assert (small[64 + 2 : 64 + 5, :64] == pixels.YES).all()
    assert {tuple(each) for each in small[66, 68:].tolist()} == {pixels.NO, (0, 0, 0, 0)}
