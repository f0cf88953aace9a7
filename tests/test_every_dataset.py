"""Every line of DATASETS keeps the contract of leoclr/data/contract.py."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leoclr.data import DATASETS, module
from leoclr.data.contract import Split

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
    """A folder of 3 classes with 10 images each; generated data sets get a folder of their own inside it."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("cat", "cow", "dog"):
        (root / "folder" / name).mkdir(parents=True)
        for index in range(10):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(root / "folder" / name / f"{index}.png")
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
def test_labels_are_in_range_and_splits_class_balanced(name: str, root: Path) -> None:
    data = module(name).load(root / name)
    for split in data.splits.values():
        if split.scenes:
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


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_is_stable_writes_nothing_to_the_data_and_needs_no_torch(
    name: str, root: Path, tmp_path: Path
) -> None:
    folder = root / name if name == "folder" else tmp_path / name
    first = module(name).digest(folder)
    assert len(first) == 64 and int(first, 16) >= 0
    program = (
        "import sys; from pathlib import Path; from leoclr.data import module;"
        f"print(module({name!r}).digest(Path({str(folder)!r})));"
        "print(sorted({'torch', 'torchvision', 'PIL', 'sklearn', 'mlxtend'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split("\n")[:2] == [first, "[]"]
    assert name == "folder" or not folder.exists()
