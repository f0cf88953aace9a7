import gzip
from pathlib import Path

import numpy as np
import pytest

from leoclr.data.contract import DataError
from leoclr.data.packaged import channel_statistics, digest_of, locate, read_table


def test_a_missing_package_or_file_is_named_with_what_to_install() -> None:
    for package, file in [("no_such_package", "x.gz"), ("numpy", "no/such/file.gz")]:
        with pytest.raises(DataError, match=package) as caught:
            locate(package, file, distribution="the-distribution")
        assert caught.value.hint == "pip install the-distribution"


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"1,2,3\n1,2\n"), gzip.compress(b"1,256\n"), gzip.compress(b"1,2,3\n")],
    ids=["not gzip", "ragged", "no byte", "too wide"],  # the bytes hold the time at which they were made
)
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"table\.csv\.gz"):
        read_table(path, columns=2)


def test_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n255,0\n"))
    assert read_table(path, columns=2).tolist() == [[1, 2], [255, 0]]


def test_a_digest_moves_with_content_and_rule(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    first = digest_of(path, "rule")
    assert digest_of(path, "other rule") != first
    path.write_bytes(b"b")
    assert digest_of(path, "rule") != first


def test_statistics_equal_numpys() -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
    mean, std = channel_statistics(images_NHWC)
    np.testing.assert_allclose(mean, (images_NHWC / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images_NHWC / 255).std((0, 1, 2)), rtol=1e-12)
