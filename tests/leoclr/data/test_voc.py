from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leoclr.data.contract import Boxes, DataError
from leoclr.data.voc import annotation, read_boxes, read_split

# The shape of VOC2012 annotations: parts inside an object, a fraction of a pixel, and one without `difficult`.
REAL = """<annotation><filename>a.jpg</filename><object><name>person</name><difficult>1</difficult>
<bndbox><xmin>10</xmin><ymin>20.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
<object><name>dog</name><bndbox><ymax>5</ymax><xmin>1</xmin><ymin>1</ymin><xmax>7</xmax></bndbox></object></annotation>"""


def test_corners_become_zero_based_and_exclusive(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(REAL)
    scene = read_boxes(path, ("dog", "person"))
    assert scene.boxes.tolist() == [[9, 19.5, 30, 40], [0, 0, 7, 5]]
    assert scene.labels.tolist() == [2, 1]
    assert scene.difficult.tolist() == [True, False]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    scene = Boxes(np.array([[0, 1, 5, 9], [3, 3, 4, 4]], np.float32), np.array([1, 2]), np.array([False, True]))
    (tmp_path / "a.xml").write_text(annotation("a.png", (10, 12), scene, ("cat", "dog")))
    read = read_boxes(tmp_path / "a.xml", ("cat", "dog"))
    for field in ("boxes", "labels", "difficult"):
        assert np.array_equal(getattr(read, field), getattr(scene, field))


def test_a_scene_without_objects_has_boxes_of_the_right_shape(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation></annotation>")
    assert read_boxes(tmp_path / "a.xml", ()).boxes.shape == (0, 4)


@pytest.mark.parametrize("text", ["<annotation>", REAL.replace("<xmin>10</xmin>", ""), REAL.replace("dog", "unicorn")])
def test_a_wrong_annotation_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=r"a\.xml"):
        read_boxes(tmp_path / "a.xml", ("dog", "person"))


def layout(folder: Path, listing: str) -> Path:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    Image.new("RGB", (40, 50)).save(folder / "JPEGImages" / "a.jpg")
    (folder / "Annotations" / "a.xml").write_text(REAL)
    (folder / "ImageSets" / "Main" / "train.txt").write_text(listing)
    return folder


@pytest.mark.parametrize("listing", ["a\n", "a  1\n\n"])  # plain, and with the flag that class lists carry
def test_a_split_is_read(tmp_path: Path, listing: str) -> None:
    images, scenes = read_split(layout(tmp_path, listing), "train", ("dog", "person"))
    assert len(images) == len(scenes) == 1
    assert images.read(0).shape == (50, 40, 3)


@pytest.mark.parametrize(("listing", "match"), [("b\n", "JPEGImages/b"), ("../a\n", r"'\.\./a'")])
def test_a_wrong_list_is_refused(tmp_path: Path, listing: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_split(layout(tmp_path, listing), "train", ("dog", "person"))
