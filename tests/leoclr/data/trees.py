"""Tiny data sets, written in exactly the formats that are published: one writer for each set that lives on disk.

Writers are by the formats' own descriptions and share no code with the readers. Every split is class-balanced, and no
image is written twice.
"""

import json
import pickle
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

WNIDS = ("n01440764", "n01443537", "n02087394", "n15075141")
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_numbers = count()


def pixels(*shape: int) -> np.ndarray:
    """Return random bytes that no other call returns."""
    return np.random.default_rng(next(_numbers)).integers(0, 256, shape, dtype=np.uint8)


def image(path: Path, side: int = 12) -> Path:
    """Write a picture of its own; its suffix says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(side, side + 2, 3)).save(path, **({"format": "JPEG"} if path.suffix == ".JPEG" else {}))
    return path


def folder(root: Path) -> None:
    for name in ("cat", "cow", "dog"):
        for index in range(10):
            image(root / name / f"{index}.png")
    image(root / "unlabeled" / "1.png")


def imagenet(root: Path) -> None:
    for wnid in WNIDS:
        for index in range(3):
            image(root / "train" / wnid / f"{wnid}_{index}.JPEG")
        image(root / "val" / wnid / f"ILSVRC2012_val_{next(_numbers):08d}.JPEG")


def imagenet_subset(root: Path) -> None:
    imagenet(root)
    (root / "subset.txt").write_text(f"{WNIDS[2]}\n{WNIDS[0]}\n")


def cifar10(root: Path, binary: bool = False) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Write the Python or the binary version; return rows [N, 3072] and labels of each file."""
    files = {f"data_batch_{number}": (pixels(10, 3072), list(range(10))) for number in range(1, 6)}
    files["test_batch"] = (pixels(10, 3072), list(range(9, -1, -1)))
    names = [f"class {number}" for number in range(10)]
    base = root / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    base.mkdir(parents=True)
    for name, (rows, labels) in files.items():
        if binary:
            records = np.concatenate([np.array(labels, np.uint8)[:, None], rows], axis=1)
            (base / f"{name}.bin").write_bytes(records.tobytes())
        else:
            _pickle(base / name, {"batch_label": name, "labels": labels, "data": rows, "filenames": ["x.png"] * 10})
    if binary:
        (base / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    else:
        _pickle(base / "batches.meta", {"num_cases_per_batch": 10, "label_names": names, "num_vis": 3072})
    return files


def cifar100(root: Path, binary: bool = False) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Write the Python or the binary version; return rows [N, 3072] and fine labels of each file."""
    files = {name: (pixels(100, 3072), list(range(100))) for name in ("train", "test")}
    names = [f"class {number}" for number in range(100)]
    base = root / ("cifar-100-binary" if binary else "cifar-100-python")
    base.mkdir(parents=True)
    for name, (rows, labels) in files.items():
        coarse = [label // 5 for label in labels]
        if binary:
            heads = np.array([coarse, labels], np.uint8).T
            (base / f"{name}.bin").write_bytes(np.concatenate([heads, rows], axis=1).tobytes())
        else:
            _pickle(base / name, {"fine_labels": labels, "coarse_labels": coarse, "data": rows})
    if binary:
        (base / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    else:
        _pickle(base / "meta", {"fine_label_names": names, "coarse_label_names": [str(each) for each in range(20)]})
    return files


def _pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))  # Python 2's


def stl10(root: Path) -> dict[str, np.ndarray]:
    """Write the binary files; return the pictures [N, H, W, C] of each split."""
    base = root / "stl10_binary"
    base.mkdir(parents=True)
    shown = {"train": pixels(10, 96, 96, 3), "test": pixels(10, 96, 96, 3), "unlabeled": pixels(4, 96, 96, 3)}
    for name, images in shown.items():
        with (base / f"{name}_X.bin").open("wb") as stream:
            for picture in images:  # channel by channel, each column by column
                stream.write(b"".join(picture[:, column, c].tobytes() for c in range(3) for column in range(96)))
        if name != "unlabeled":
            (base / f"{name}_y.bin").write_bytes(bytes(range(1, 11)))
    (base / "class_names.txt").write_text("airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n")
    (base / "fold_indices.txt").write_text("0 1 2 \n")
    return shown


def cars(root: Path) -> None:
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Acura TL Sedan 2012"], object)
    scipy.io.savemat(base / "devkit" / "cars_meta.mat", {"class_names": names})
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    for part, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = [(1, 1, 9, 9, index % 3 + 1, f"{index + 1:05d}.jpg") for index in range(6)]
        table = np.array([rows], dtype=[(field, object) for field in fields])
        scipy.io.savemat(base / path, {"annotations": table})
        for row in rows:
            image(base / f"cars_{part}" / row[-1])


def birdsnap(root: Path) -> None:
    """Three species with 3 listed images each, of which the last is gone from the web."""
    base = root / "birdsnap"
    base.mkdir(parents=True)
    species = [("Coopers_Hawk", "Cooper's Hawk"), ("Blue_Jay", "Blue Jay"), ("Gadwall", "Gadwall")]
    rows = ["url\tmd5\tpath\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2\tback_x\tback_y"]
    test = ["path"]
    for number, (name, _) in enumerate(species, start=1):
        for index in range(3):
            path = f"{name}/{number}{index:03d}.jpg"
            rows.append(f"http://farm/{path}\t0\t{path}\t{number}\t1\t1\t9\t9\tnull\tnull")
            if index < 2:
                image(base / "images" / path)
        test.append(f"{name}/{number}001.jpg")
    lines = [f"{number}\t{name}\tLatin name\t{where}" for number, (where, name) in enumerate(species, start=1)]
    (base / "species.txt").write_text("\n".join(["id\tcommon\tscientific\tdir", *lines]) + "\n")
    (base / "images.txt").write_text("\n".join(rows) + "\n")
    (base / "test_images.txt").write_text("\n".join(test) + "\n")


def pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for name, first in (("trainval", 1), ("test", 100)):
        rows = [
            f"{breed}_{index} {label} {kind} {label}"
            for label, (breed, kind) in enumerate((("Abyssinian", 1), ("american_bulldog", 2), ("Birman", 1)), start=1)
            for index in range(first, first + 2)
        ]
        (base / "annotations" / f"{name}.txt").write_text("\n".join(rows) + "\n")
        for row in rows:
            image(base / "images" / f"{row.split()[0]}.jpg")


def voc0712(root: Path) -> None:
    """Two images a part, ten classes in each."""
    for year, part in (("2007", "trainval"), ("2007", "test"), ("2012", "trainval")):
        base = root / "VOCdevkit" / f"VOC{year}"
        names = [f"{year}_{part}_{number}" for number in range(2)]
        for half, name in enumerate(names):
            image(base / "JPEGImages" / f"{name}.jpg", side=40)
            _annotate(base / "Annotations" / f"{name}.xml", VOC[10 * half : 10 * half + 10])
        lists = base / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text("\n".join(names) + "\n")


def _annotate(path: Path, classes: tuple[str, ...]) -> None:
    objects = "".join(
        f"<object><name>{name}</name><pose>Left</pose><difficult>{int(name == 'cow')}</difficult>"
        f"<bndbox><xmin>{1 + at}</xmin><ymin>2</ymin><xmax>{20 + at}</xmax><ymax>30</ymax></bndbox></object>"
        for at, name in enumerate(classes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>{path.stem}.jpg</filename>{objects}</annotation>")


def coco(root: Path) -> None:
    """Three images a part, with categories 1, 2 and 90; one box of train has no height, one object is a crowd."""
    base = root / "coco"
    (base / "annotations").mkdir(parents=True)
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    for part in ("train2017", "val2017"):
        numbers = (139, 25, 9)
        images = [{"id": each, "file_name": f"{each:012d}.jpg", "height": 40, "width": 42} for each in numbers]
        objects = [
            {"id": 10 * each + one["id"], "image_id": each, "category_id": one["id"], "iscrowd": 0}
            | {"bbox": [1.5, 2.25, 10.0 + at, 4.5], "area": 33.25}
            for each in numbers[:2]  # the third has no object
            for at, one in enumerate(categories)
        ]
        objects[0]["iscrowd"] = 1
        objects.append({"id": 7, "image_id": 25, "category_id": 1, "iscrowd": 0, "bbox": [3, 3, 5, 0], "area": 0})
        content = {"info": {}, "licenses": [], "images": images, "annotations": objects, "categories": categories}
        (base / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        for each in images:
            image(base / part / each["file_name"], side=40)


WRITERS: dict[str, Callable[[Path], object]] = {
    "folder": folder,
    "imagenet": imagenet,
    "imagenet_subset": imagenet_subset,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "stl10": stl10,
    "cars": cars,
    "birdsnap": birdsnap,
    "pets": pets,
    "voc0712": voc0712,
    "coco": coco,
}
