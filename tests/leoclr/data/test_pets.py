from pathlib import Path

import pytest

from leoclr.data import pets
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


def test_it_reads_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision import datasets

    trees.pets(tmp_path)
    data = pets.load(tmp_path)
    for split, part in data.splits.items():
        reference = datasets.OxfordIIITPet(tmp_path, split={"train": "trainval"}.get(split, split))
        assert list(part.images.paths) == reference._images
        assert part.labels.tolist() == reference._labels
        assert list(data.classes) == reference.classes
    assert (data.metric, data.valid_size, data.valid_per_class) == ("mean_per_class", 740, 20)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("Abyssinian_1 1 1", "is not `name class species breed`"),
        ("Abyssinian_1 one 1 1", "is not `name class species breed`"),
        ("Abyssinian_1 9 1 1", "not numbered from 1"),
        ("../../Abyssinian_1 1 1 1", "does not name an image"),
        ("Abyssinian_77 1 1 1", r"missing: Abyssinian_77\.jpg"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, line: str, match: str) -> None:
    trees.pets(tmp_path)
    path = tmp_path / "oxford-iiit-pet" / "annotations" / "trainval.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=match):
        pets.load(tmp_path)
