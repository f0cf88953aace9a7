"""Detection sets in the on-disk layout of PASCAL VOC: JPEGImages, Annotations/*.xml, ImageSets/Main/<split>.txt.

VOC counts pixels from 1 and includes the last one; `Boxes` counts from 0 and excludes it. So x1 = xmin - 1, x2 = xmax,
and the same for y. Source: Everingham et al., "The PASCAL VOC 2007 development kit", section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from leoclr.data.contract import Boxes, DataError
from leoclr.data.files import Files
from leoclr.data.layout import read_lines

_LAYOUT_HINT = "a VOC folder holds JPEGImages, Annotations and ImageSets/Main"


def read_split(folder: Path, split: str, classes: Sequence[str]) -> tuple[Files, tuple[Boxes, ...]]:
    """Return images and objects of ImageSets/Main/<split>.txt, in its order; class k of `classes` gets label k + 1.

    Raises: DataError naming the file that is missing or wrong.
    """
    _, images, annotations = files_of(folder, split)
    return images, tuple(read_boxes(path, classes) for path in annotations)


def files_of(folder: Path, split: str) -> tuple[Path, Files, tuple[Path, ...]]:
    """Return the list of a split, its images, and their annotations, in the order of the list.

    Raises: DataError naming the list, or the image of it, that is missing or wrong.
    """
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    names = [line.split()[0] for line in read_lines(listing, _LAYOUT_HINT)]
    outside = next((name for name in names if Path(name).name != name), None)
    if outside is not None:
        raise DataError(f"{listing}: {outside!r} is not a plain name", hint="one image name a line, without a folder")
    images = Files(tuple(_image_path(folder, name) for name in names))
    return listing, images, tuple(folder / "Annotations" / f"{name}.xml" for name in names)


def read_boxes(path: Path, classes: Sequence[str]) -> Boxes:
    """Return the objects of one annotation file; parts inside an object (VOC 2012's persons) are no objects.

    Raises: DataError naming the file when it is missing, broken, or names a class that is not in `classes`.
    """
    try:
        # expat bounds entity expansion itself since 2.4.1, which every supported Python brings
        objects = ElementTree.parse(path).getroot().findall("object")  # noqa: S314
        corners = [
            [float(_text(item, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")] for item in objects
        ]
        labels = [list(classes).index(_text(item, "name")) + 1 for item in objects]
        difficult = [bool(int(item.findtext("difficult", "0"))) for item in objects]  # absent from some files of 2007
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: not a VOC annotation of the classes {', '.join(classes)}: {error}") from error
    # float() above, since some files of 2011 and 2012 hold fractions of a pixel.
    boxes = np.array(corners, np.float32).reshape(-1, 4) - np.array([1, 1, 0, 0], np.float32)
    return Boxes(boxes, np.array(labels, np.int64), np.array(difficult, np.bool_))


def annotation(name: str, size: tuple[int, int], scene: Boxes, classes: Sequence[str]) -> str:
    """Return the annotation file of one RGB image `name` of `size` (height, width) as VOC writes it."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    extent = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (size[1], size[0], 3), strict=True):
        ElementTree.SubElement(extent, tag).text = str(value)
    for (x1, y1, x2, y2), label, difficult in zip(scene.boxes, scene.labels, scene.difficult, strict=True):
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = classes[int(label) - 1]
        ElementTree.SubElement(item, "difficult").text = str(int(difficult))
        box = ElementTree.SubElement(item, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True):
            ElementTree.SubElement(box, tag).text = str(int(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _image_path(folder: Path, name: str) -> Path:
    for suffix in (".jpg", ".png"):
        path = folder / "JPEGImages" / f"{name}{suffix}"
        if path.is_file():
            return path
    raise DataError(f"{folder / 'JPEGImages' / name}.jpg: no such image, nor .png", hint=_LAYOUT_HINT)


def _text(item: ElementTree.Element, tag: str) -> str:
    text = item.findtext(tag)
    if text is None:
        raise ValueError(f"an object has no {tag}")
    return text.strip()
