from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leoclr.data.contract import DataError
from leoclr.data.files import Files


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_every_mode_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (5, 3), (255, 255, 255)).convert(mode).save(path)
    image_HWC = Files((path,)).read(0)
    assert image_HWC.shape == (3, 5, 3) and image_HWC.dtype == np.uint8
    assert (image_HWC == 255).all()


@pytest.mark.parametrize("keep", [0, 20, 60])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    for wrong in (path, tmp_path / f"none.{suffix}"):
        with pytest.raises(DataError, match=wrong.name):
            Files((wrong,)).read(0)
