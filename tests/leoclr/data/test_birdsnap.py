from pathlib import Path

import pytest

from leoclr.data import birdsnap
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


@pytest.fixture
def base(tmp_path: Path) -> Path:
    trees.birdsnap(tmp_path)
    return tmp_path / "birdsnap"


def shown(base: Path) -> dict[str, list[tuple[str, str]]]:
    data = birdsnap.load(base)
    return {
        name: [
            (path.name, data.classes[label])
            for path, label in zip(part.images.paths, part.labels.tolist(), strict=True)
        ]
        for name, part in data.splits.items()
    }


def test_the_test_list_divides_what_is_there(base: Path) -> None:
    assert shown(base) == {
        "train": [("1000.jpg", "Cooper's Hawk"), ("2000.jpg", "Blue Jay"), ("3000.jpg", "Gadwall")],
        "test": [("1001.jpg", "Cooper's Hawk"), ("2001.jpg", "Blue Jay"), ("3001.jpg", "Gadwall")],
    }
    assert birdsnap.missing(base) == ("Coopers_Hawk/1002.jpg", "Blue_Jay/2002.jpg", "Gadwall/3002.jpg")


def test_images_may_lie_where_its_script_puts_them(base: Path) -> None:
    before = shown(base)
    (base / "download").mkdir()
    (base / "images").rename(base / "download" / "images")
    assert shown(base) == before


def test_the_digest_moves_with_every_image_that_comes_or_goes(base: Path) -> None:
    first = birdsnap.digest(base)
    trees.image(base / "images" / "Gadwall" / "3002.jpg")
    second = birdsnap.digest(base)
    (base / "images" / "Blue_Jay" / "2000.jpg").unlink()
    assert len({first, second, birdsnap.digest(base)}) == 3


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        ("images.txt", "species_id", "species", "fields path, species_id"),
        ("images.txt", "Gadwall/3000.jpg\t3\t", "Gadwall/3000.jpg\tthree\t", "'three' is no number"),
        ("images.txt", "Gadwall/3000.jpg\t3\t", "Gadwall/3000.jpg\t4\t", "labels not from 1 to 3"),
        ("images.txt", "\tGadwall/3000.jpg", "\t/etc/passwd", "does not name an image"),
        ("images.txt", "\tnull\tnull\n", "\n", "not a table"),
        ("species.txt", "common", "name", "fields id, common"),
    ],
)
def test_a_wrong_list_is_refused(base: Path, file: str, old: str, new: str, match: str) -> None:
    text = (base / file).read_text()
    assert old in text
    (base / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=rf"(?s)(birdsnap|{file}).*{match}"):
        birdsnap.load(base)
