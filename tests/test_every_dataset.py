"""Every line of DATASETS keeps the contract of leoclr/data/contract.py."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from leoclr.data import DATASETS, WITH_BOXES, module
from leoclr.data.contract import UNLABELED, DataError, Split
from orchestration import prepare, spec
from orchestration.storage import Home
from tests.leoclr.data.trees import WRITERS

# Content and split rule as digests, then the images of each split in their order. One that moves changes every number
# that was measured on the data set: bump its split rule or generator, and say why in the commit.
KNOWN = {
    "mnist5k": ("d7806153995a", {"train": "9f412eada09b", "test": "e16224186775"}),
    "digits": ("5964e175a9e6", {"train": "7fdf75621e15", "test": "8a335d00f629"}),
    "digit_scenes": ("9e71d6b9a856", {"train": "f57d098ea7b0", "test": "a7fc1e29660f"}),
}
NAMES = sorted(DATASETS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny tree of every data set that lives on disk; generated ones get a folder of their own inside it."""
    root = tmp_path_factory.mktemp("data")
    for name, write in WRITERS.items():
        write(root / name)
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def contents(split: Split) -> list[str]:
    return [hashlib.sha256(split.images.read(index).tobytes()).hexdigest() for index in range(len(split))]


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_there_and_disjoint_by_content(name: str, root: Path) -> None:
    data = module(name).load(root / name)
    assert data.name == name
    assert {"train", "test"} <= set(data.splits)
    hashes = [set(contents(split)) for split in data.splits.values()]
    assert all(hashes)
    for index, one in enumerate(hashes):
        assert all(not one & other for other in hashes[:index])


@pytest.mark.parametrize("name", NAMES)
def test_sets_with_boxes_are_named(name: str, root: Path) -> None:
    assert bool(module(name).load(root / name).splits["train"].scenes) is (name in WITH_BOXES)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_in_range_and_splits_class_balanced(name: str, root: Path) -> None:
    data = module(name).load(root / name)
    assert len(set(data.classes)) == len(data.classes)
    for part, split in data.splits.items():
        if part == "unlabeled":
            assert set(split.labels) == {UNLABELED} and len(split.labels) == len(split)
        elif split.scenes:
            labels = np.concatenate([scene.labels for scene in split.scenes])
            assert len(split.labels) == 0 and len(split.scenes) == len(split)
            assert set(labels) == set(range(1, len(data.classes) + 1))
            assert all(scene.boxes.shape == (len(scene.labels), 4) for scene in split.scenes)
        else:
            counts = np.bincount(split.labels, minlength=len(data.classes))
            assert len(split.labels) == len(split) and split.labels.min() >= 0
            assert counts.tolist() == [len(split) // len(data.classes)] * len(data.classes)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_uint8_rgb_and_statistics_are_positive(name: str, root: Path) -> None:
    data = module(name).load(root / name)
    for split in data.splits.values():
        image_HWC = split.images.read(len(split) - 1)
        assert image_HWC.dtype == np.uint8 and image_HWC.ndim == 3 and image_HWC.shape[2] == 3
    assert all(0 < value < 1 for value in (*data.mean, *data.std))


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_content_and_splits_are_fixed(name: str, root: Path) -> None:
    data, (digest, splits) = module(name).load(root / name), KNOWN[name]
    assert module(name).digest(root / name)[:12] == digest
    found = {split: hashlib.sha256("".join(contents(data.splits[split])).encode()).hexdigest()[:12] for split in splits}
    assert found == splits


def everything(folder: Path) -> list[tuple[Path, int]]:
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_digests_are_stable_write_nothing_to_the_data_and_need_no_torch(root: Path, tmp_path: Path) -> None:
    folders = {name: root / name if name in WRITERS else tmp_path / name for name in NAMES}
    before = everything(root)
    first = {name: module(name).digest(folder) for name, folder in folders.items()}
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in first.values())
    assert len(set(first.values())) == len(first)
    program = (
        "import json, sys; from pathlib import Path; from leoclr.data import module;"
        "asked = json.loads(sys.argv[1]);"
        "print(json.dumps({name: module(name).digest(Path(folder)) for name, folder in asked.items()}));"
        "print(sorted({'torch', 'torchvision', 'PIL', 'sklearn', 'scipy', 'mlxtend'} & set(sys.modules)))"
    )
    asked = json.dumps({name: str(folder) for name, folder in folders.items()})
    done = subprocess.run([sys.executable, "-c", program, asked], capture_output=True, text=True, check=True)
    digests, imported = done.stdout.splitlines()
    assert json.loads(digests) == first
    assert imported == "[]"
    assert everything(root) == before
    assert not any((tmp_path / name).exists() for name in NAMES)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_digest_moves_when_an_image_or_a_file_changes_its_size(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    first = module(name).digest(tmp_path)
    data = module(name).load(tmp_path)
    images = data.splits["test"].images
    path = images.paths[0] if hasattr(images, "paths") else next(tmp_path.rglob("*test*"))
    path.write_bytes(path.read_bytes() + b"\0")
    assert module(name).digest(tmp_path) != first


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_is_missing_is_one_error_with_a_place_and_a_hint(name: str, tmp_path: Path) -> None:
    for ask in (module(name).digest, module(name).load):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(DataError, match=folder.name) as caught:
                ask(folder)
            assert caught.value.hint


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"folder", "imagenet", "imagenet_subset"}))
def test_the_folder_that_an_archive_makes_may_be_the_root(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    (made,) = tmp_path.iterdir()
    assert module(name).digest(made) == module(name).digest(tmp_path)
    inner, outer = module(name).load(made), module(name).load(tmp_path)
    assert {split: len(part) for split, part in inner.splits.items()} == {
        split: len(part) for split, part in outer.splits.items()
    }


@pytest.mark.parametrize("pipeline", spec.shipped())
def test_a_plan_of_a_shipped_pipeline_digests_every_data_set_that_it_names(
    pipeline: str, root: Path, tmp_path: Path
) -> None:
    loaded = dataclasses.replace(spec.load(pipeline), data={name: root / name for name in WRITERS})
    named = {stage.params.dataset for arm in loaded.arms for stage in arm.stages.values()} & set(NAMES)
    digests = prepare.digests(loaded, Home(tmp_path))
    assert named and all(digests[name] == module(name).digest(root / name) for name in named)
