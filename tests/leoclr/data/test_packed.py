"""Stores are read as they were written, from any process, and damage is one error with a place."""

import hashlib
import pickle
import struct
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from leoclr.augment.loader import ViewLoader, epoch_plan
from leoclr.augment.views import View
from leoclr.data import label_lists, module, packed, without_corrupt
from leoclr.data.contract import DataError
from leoclr.evaluate.splits import join, part, published_labels
from tests.leoclr.data import stores, trees
from tests.leoclr.data.stores import CLASSES

FOLDER = module("folder")


@pytest.fixture(params=["raw", "jpeg"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_store_loads_as_the_data_set_that_it_says(form: str, tmp_path: Path) -> None:
    shown = stores.write(tmp_path, form)
    data = FOLDER.load(tmp_path)
    assert (data.name, data.classes, list(data.splits)) == ("folder", CLASSES, ["train", "test"])
    assert (data.mean, data.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert (data.metric, data.valid_size, data.valid_per_class) == ("mean_per_class", 2, None)
    for name, written in shown.items():
        split = data.splits[name]
        assert len(split) == len(written) and not split.scenes
        assert split.labels.tolist() == [label for _, label, _ in written] and split.labels.dtype == np.int64
        assert [str(path) for path in split.images.paths] == [each for _, _, each in written]
        for index in reversed(range(len(written))):
            image_HWC = split.images.read(index)
            assert image_HWC.dtype == np.uint8 and image_HWC.shape == written[index][0].shape
            if form == "raw":
                assert (image_HWC == written[index][0]).all()
            else:
                assert np.abs(image_HWC.astype(int) - written[index][0]).mean() < 60  # noise survives JPEG badly


def test_jpegs_are_decoded_as_pillow_decodes_them(tmp_path: Path) -> None:
    import io

    from PIL import Image

    shown = stores.write(tmp_path, "jpeg")
    images = FOLDER.load(tmp_path).splits["test"].images
    for index, (picture, _, _) in enumerate(shown["test"]):
        assert (images.read(index) == np.array(Image.open(io.BytesIO(stores.jpeg(picture))))).all()


def test_images_count_from_the_end_and_stop_at_it(tmp_path: Path) -> None:
    shown = stores.write(tmp_path)
    images = FOLDER.load(tmp_path).splits["train"].images
    assert (images.read(-1) == shown["train"][-1][0]).all()
    for beyond in (4, -5):
        with pytest.raises(IndexError):
            images.read(beyond)


def test_writing_to_a_raw_image_never_reaches_the_file_and_torch_takes_it_without_a_copy(tmp_path: Path) -> None:
    stores.write(tmp_path)
    before = (tmp_path / "images.bin").read_bytes()
    images = FOLDER.load(tmp_path).splits["train"].images
    image_HWC = images.read(0)
    assert image_HWC.base is not None and image_HWC.flags.c_contiguous
    torch.from_numpy(image_HWC).zero_()  # would warn, and so fail, if it were read-only
    assert (tmp_path / "images.bin").read_bytes() == before


def test_a_store_larger_than_memory_can_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "images.bin"
    with path.open("wb") as stream:
        stream.truncate(4 << 40)  # 4 TB, of which nothing is on the disk
    for form in ("raw", "jpeg"):
        assert packed._map(path, form)[-1] == 0


def test_a_mapping_does_not_travel_and_other_processes_read_the_same(form: str, tmp_path: Path) -> None:
    stores.write(tmp_path, form)
    images = FOLDER.load(tmp_path).splits["train"].images
    here = stores.content(images)
    sent = pickle.dumps(images)
    assert len(sent) < 2000 and stores.content(pickle.loads(sent)) == here
    for how in ("fork", "spawn"):
        with get_context(how).Pool(1) as pool:
            assert pool.apply(stores.content, (images,)) == here


def test_views_do_not_depend_on_the_number_of_loading_processes(form: str, tmp_path: Path) -> None:
    stores.write(tmp_path, form)
    data = FOLDER.load(tmp_path)

    def batches(workers: int) -> list[torch.Tensor]:
        loader = ViewLoader(
            data.splits["train"].images, [View(size=6)], mean=data.mean, std=data.std, seed=1, device="cpu"
        )
        loader.workers = workers
        return [views[0] for views in loader.batches(0, epoch_plan(4, batch=2, seed=1, epoch=0))]

    for ours, theirs in zip(batches(0), batches(2), strict=True):
        assert torch.equal(ours, theirs) and ours.isfinite().all()


def test_parts_joins_and_damage_policies_take_packed_images(tmp_path: Path) -> None:
    shown = stores.write(tmp_path)
    data = FOLDER.load(tmp_path)
    split = join(part(data.splits["train"], np.array([2, 0])), data.splits["test"])
    expected = [shown["train"][2], shown["train"][0], *shown["test"]]
    assert all((split.images.read(index) == picture).all() for index, (picture, _, _) in enumerate(expected))
    assert split.labels.tolist() == [label for _, label, _ in expected]
    assert without_corrupt(data, limit=0) == (data, ())


def test_published_lists_name_packed_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.write(tmp_path)
    before = FOLDER.digest(tmp_path)
    text = "n_3.png\nn_0.png\n"
    known = label_lists.LabelList("1percent.txt", 2, hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setitem(label_lists.IMAGENET_LISTS, 1.0, known)
    (tmp_path / label_lists.FOLDER).mkdir()
    (tmp_path / label_lists.FOLDER / "1percent.txt").write_text(text)
    chosen = published_labels(FOLDER.load(tmp_path).splits["train"], pct=1.0, root=tmp_path)
    assert chosen is not None and chosen.tolist() == [0, 3]
    assert FOLDER.digest(tmp_path) != before


def test_a_digest_moves_with_every_file_and_needs_neither_torch_nor_pillow(tmp_path: Path) -> None:
    digests = set()
    for form in ("raw", "jpeg"):
        for seed in (0, 1):
            stores.write(tmp_path / f"{form}{seed}", form, seed=seed)
            digests.add(FOLDER.digest(tmp_path / f"{form}{seed}"))
    stores.write(tmp_path / "again", "raw", seed=0)
    assert len(digests) == 4 and FOLDER.digest(tmp_path / "again") == FOLDER.digest(tmp_path / "raw0")
    trees.folder(tmp_path / "originals")
    assert FOLDER.digest(tmp_path / "originals") not in digests
    program = (
        "import sys; from pathlib import Path; from leoclr.data import module;"
        "module('folder').load(Path(sys.argv[1])); print(module('folder').digest(Path(sys.argv[1])));"
        "print(sorted({'torch', 'torchvision', 'PIL'} & set(sys.modules)))"
    )
    ask = [sys.executable, "-c", program, str(tmp_path / "raw0")]
    assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout.splitlines() == [
        FOLDER.digest(tmp_path / "raw0"),
        "[]",
    ]


def test_a_store_of_another_data_set_is_refused(tmp_path: Path) -> None:
    stores.write(tmp_path, dataset="pets")
    for ask in (FOLDER.digest, FOLDER.load):
        with pytest.raises(DataError, match="holds pets, not folder") as caught:
            ask(tmp_path)
        assert str(tmp_path) in str(caught.value) and "data pack folder" in caught.value.hint
    assert module("pets").load(tmp_path).name == "pets"


def damaged(root: Path, fact: str) -> None:
    with pytest.raises(DataError, match=fact) as caught:
        data = FOLDER.load(root)
        for split in data.splits.values():
            for index in range(len(split)):
                split.images.read(index)
    assert str(root) in str(caught.value) and "anew" in caught.value.hint


@pytest.mark.parametrize("name", ["images.bin", "index.bin", "names.bin"])
def test_files_that_are_cut_short_or_gone_are_told_by_plan_and_load(name: str, tmp_path: Path) -> None:
    stores.write(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    damaged(tmp_path, f"{name} has .* bytes, not ")
    with pytest.raises(DataError, match=name):
        FOLDER.digest(tmp_path)
    path.unlink()
    damaged(tmp_path, f"{name} cannot be read: No such file")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def test_a_flipped_bit_is_told_when_the_file_is_read(tmp_path: Path) -> None:
    for name in ("index.bin", "names.bin"):
        stores.write(tmp_path)
        flip(tmp_path / name, 3)
        if name == "index.bin":
            damaged(tmp_path, "index.bin has not its sha256")
        else:
            with pytest.raises(DataError, match="names.bin has not its sha256"):
                FOLDER.load(tmp_path).splits["train"].images.paths  # noqa: B018
        assert packed.problems(tmp_path) == [f"{name} has not its sha256"]


def test_a_damaged_jpeg_is_named_with_its_original(tmp_path: Path) -> None:
    shown = stores.write(tmp_path, "jpeg")
    flip(tmp_path / "images.bin", len(stores.jpeg(shown["train"][0][0])))  # the first byte of the second image
    damaged(tmp_path, "image 1: not a readable image: .* \\(train/dog/n_1.png\\)")
    assert packed.problems(tmp_path) == ["images.bin has not its sha256"]


def test_a_whole_store_has_no_problem(form: str, tmp_path: Path) -> None:
    stores.write(tmp_path, form)
    assert packed.problems(tmp_path) == []


RECORDS = {
    "an offset beyond the file": (1, (1 << 62, 8, 8, 1), "points outside"),
    "an offset beyond 63 bits": (1, ((1 << 64) - 8, 8, 8, 1), "points outside"),
    "an offset before the one before": (2, (3, 30, 8, 0), "points outside"),
    "an image of no bytes": (1, (0, 8, 8, 1), "points outside"),
    "a beginning that is not the file's": (0, (3, 8, 9, 0), "points outside"),
    "no height": (1, (216, 0, 8, 1), "sides that no image has"),
    "a huge side": (1, (216, (1 << 32) - 1, 8, 1), "sides that no image has"),
    "another size": (1, (216, 8, 7, 1), "sizes that do not go with"),
    "a label beyond the classes": (1, (216, 8, 8, 2), "labels beyond its 2 classes"),
    "a label below": (1, (216, 8, 8, -2), "labels beyond its 2 classes"),
}


@pytest.mark.parametrize("what", RECORDS)
def test_a_forged_index_leads_nowhere(what: str, tmp_path: Path) -> None:
    stores.write(tmp_path)
    at, record, fact = RECORDS[what]
    index = bytearray((tmp_path / "index.bin").read_bytes())
    index[24 * at : 24 * at + 24] = struct.pack("<QIIq", *record)
    stores.replace(tmp_path, "index.bin", bytes(index))
    damaged(tmp_path, fact)


def test_a_forged_size_of_a_jpeg_is_told(tmp_path: Path) -> None:
    stores.write(tmp_path, "jpeg")
    index = bytearray((tmp_path / "index.bin").read_bytes())
    index[8:16] = struct.pack("<II", 9, 8)
    stores.replace(tmp_path, "index.bin", bytes(index))
    damaged(tmp_path, "image 0 has not the size of its index")


def test_an_index_of_another_length_is_told(tmp_path: Path) -> None:
    stores.write(tmp_path)
    stores.replace(tmp_path, "index.bin", (tmp_path / "index.bin").read_bytes()[:-24])
    damaged(tmp_path, "not a record for each of 6 images")


def test_a_folder_of_images_is_no_store(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert len(FOLDER.load(tmp_path).classes) == 3
