from pathlib import Path

import pytest

from leoclr.data import cars
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


def test_it_reads_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision import datasets

    trees.cars(tmp_path)
    data = cars.load(tmp_path)
    for split, part in data.splits.items():
        reference = datasets.StanfordCars(tmp_path, split=split)
        assert [(str(path), label) for path, label in zip(part.images.paths, part.labels, strict=True)] == [
            (name, label) for name, label in reference._samples
        ]
    assert list(data.classes) == reference.classes
    assert data.valid_size == 1650


def test_the_labeled_list_may_lie_in_the_devkit(tmp_path: Path) -> None:
    trees.cars(tmp_path)
    first = cars.load(tmp_path).splits["test"].labels.tolist()
    base = tmp_path / "stanford_cars"
    (base / "cars_test_annos_withlabels.mat").rename(base / "devkit" / "cars_test_annos_withlabels.mat")
    assert cars.load(tmp_path).splits["test"].labels.tolist() == first


def test_a_missing_image_and_a_missing_list_are_named(tmp_path: Path) -> None:
    trees.cars(tmp_path)
    base = tmp_path / "stanford_cars"
    (base / "cars_train" / "00002.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of the 6 images of cars_train_annos\.mat are missing: 00002\.jpg"):
        cars.load(tmp_path)
    (base / "cars_test_annos_withlabels.mat").unlink()
    for ask in (cars.load, cars.digest):
        with pytest.raises(DataError, match="test images have no labels"):
            ask(tmp_path)


def test_a_truncated_list_is_named_wherever_it_is_cut(tmp_path: Path) -> None:
    trees.cars(tmp_path)
    path = tmp_path / "stanford_cars" / "devkit" / "cars_train_annos.mat"
    whole = path.read_bytes()
    for kept in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"cars_train_annos\.mat"):
            cars.load(tmp_path)
