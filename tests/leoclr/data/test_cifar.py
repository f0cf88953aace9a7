import os
import pickle
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest

from leoclr.data import cifar10, cifar100
from leoclr.data.contract import DataError
from tests.leoclr.data import trees


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("ours", "write"), [(cifar10, trees.cifar10), (cifar100, trees.cifar100)])
def test_pixels_and_labels_are_where_the_format_puts_them(ours, write, binary: bool, tmp_path: Path) -> None:
    files = write(tmp_path, binary)
    data = ours.load(tmp_path)
    for split, names in (
        ("train", [name for name in files if "test" not in name]),
        ("test", [n for n in files if "test" in n]),
    ):
        rows = [row for name in names for row in files[name][0]]
        labels = [label for name in names for label in files[name][1]]
        assert data.splits[split].labels.tolist() == labels
        for index, row in enumerate(rows):  # 1,024 red values, row by row, then green, then blue
            image_HWC = data.splits[split].images.read(index)
            assert all(
                image_HWC[y, x, c] == row[1024 * c + 32 * y + x]
                for y in (0, 1, 31)
                for x in (0, 5, 31)
                for c in range(3)
            )
    assert data.classes == tuple(f"class {number}" for number in range(len(data.classes)))


def test_the_pickled_version_reads_as_torchvision_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets.cifar, "check_integrity", lambda path, md5=None: Path(path).is_file())
    for ours, theirs, write in (
        (cifar10, datasets.CIFAR10, trees.cifar10),
        (cifar100, datasets.CIFAR100, trees.cifar100),
    ):
        write(tmp_path)
        data = ours.load(tmp_path)
        for split in ("train", "test"):
            reference = theirs(tmp_path, train=split == "train")
            assert np.array_equal(data.splits[split].images.images_NHWC, reference.data)
            assert data.splits[split].labels.tolist() == reference.targets
            assert list(data.classes) == reference.classes


class Harm:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trees.cifar10(tmp_path)
    mark = tmp_path / "harmed"
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps({"data": Harm(mark), "labels": []}, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_3: not a CIFAR file: it asks for (posix|os|nt)\.mkdir"):
        cifar10.load(tmp_path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())  # the same file does run code where it is let
    assert mark.exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "holds no dict"),
        ({"labels": [1]}, "has no `data`"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "has no `labels`"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "not one label"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]}, "not one label"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, -1]}, "not one label"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [1, 2]}, "not rows of 3072 bytes"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [1, 2]}, "not rows of 3072 bytes"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": ["1", "2"]}, "not a list of numbers"),
    ],
)
def test_a_file_of_another_shape_is_named(tmp_path: Path, content: object, match: str) -> None:
    trees.cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=f"test_batch.*{match}"):
        cifar10.load(tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_a_truncated_file_is_named_wherever_it_is_cut(tmp_path: Path, binary: bool) -> None:
    trees.cifar10(tmp_path, binary)
    path = next(tmp_path.rglob("data_batch_2*"))
    whole = path.read_bytes()
    for kept in (0, 1, 10, 100, 3072, len(whole) // 2 + 1, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match="data_batch_2"):
            cifar10.load(tmp_path)


def python_2(rows: np.ndarray, labels: list[int]) -> bytes:
    """Return the pickle that Python 2.7 and numpy 1 write of a batch: module names and byte strings of their time."""
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    shape = b"(M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", 3072) + b"t"
    state = b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<I", rows.nbytes) + rows.tobytes() + b"tb"
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    return b"\x80\x02}(U\x04data" + made + state + b"U\x06labels](" + numbers + b"eu."


def test_the_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    trees.cifar10(tmp_path)
    rows = trees.pixels(300, 3072)
    labels = [number % 10 for number in range(300)]
    content = python_2(rows, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy 2 warns of the old name
        assert np.array_equal(pickle.loads(content, encoding="latin1")["data"], rows)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    test = cifar10.load(tmp_path).splits["test"]
    assert np.array_equal(test.images.images_NHWC, rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert test.labels.tolist() == labels
