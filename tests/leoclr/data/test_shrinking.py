"""Stored images are torchvision's Resize of the originals, and what needs no change has none."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from leoclr.augment.evaluation import evaluation_views
from leoclr.augment.views import TestView
from leoclr.data.contract import DataError
from leoclr.data.files import Files
from leoclr.data.shrinking import Shrinking, Small, shrink, shrink_files

RAW, JPEG = Shrinking(form="raw", side=32), Shrinking(form="jpeg", side=32)


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Return a smooth picture with some noise: JPEG keeps it well."""
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(rows / 9 + each) * np.cos(columns / 7 - each) for each in range(3)]
    noise = np.random.default_rng(height).integers(0, 20, (height, width, 3))
    return Image.fromarray((np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8)).convert(mode)


def file(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(small: Small) -> np.ndarray:
    return np.frombuffer(small.content, np.uint8).reshape(small.height, small.width, 3)


@pytest.mark.parametrize("size", [(40, 40), (37, 91), (91, 37), (33, 500), (64, 65), (65, 64), (47, 71)])
def test_a_raw_image_is_torchvisions_resize_to_the_bit(size: tuple[int, int]) -> None:
    image = picture(*size)
    small = shrink(file(image), "x", RAW)
    assert (pixels(small) == np.array(transforms.Resize(32)(image))).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb_before_it_is_made_small(mode: str) -> None:
    image = picture(50, 60, mode)
    content = file(image, "TIFF" if mode == "CMYK" else "PNG")
    expected = transforms.Resize(32)(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (pixels(shrink(content, "x", RAW)) == np.array(expected)).all()


def test_nothing_is_enlarged() -> None:
    for size in ((32, 32), (32, 400), (400, 32), (5, 7), (1, 1)):
        small = shrink(file(picture(*size)), "x", RAW)
        assert (small.height, small.width) == size
        assert (pixels(small) == np.array(picture(*size))).all()


def test_a_jpeg_that_is_small_enough_is_kept_byte_for_byte() -> None:
    for image in (picture(32, 90), picture(20, 20), picture(32, 40, "L"), picture(32, 40, "CMYK")):
        content = file(image, "JPEG", quality=31, progressive=True)
        small = shrink(content, "x", JPEG)
        assert small.content == content and (small.width, small.height) == image.size


def test_the_exif_orientation_is_left_unapplied_in_both_forms() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for size in ((60, 32), (80, 40)):
        content = file(picture(*size), "JPEG", exif=exif)
        for how in (RAW, JPEG):
            small = shrink(content, "x", how)
            assert (small.height, small.width) == ((60, 32) if size == (60, 32) else (64, 32))


def test_other_images_of_a_jpeg_store_are_pillows_jpeg_of_what_the_raw_one_holds() -> None:
    for content in (file(picture(20, 30)), file(picture(90, 70)), file(picture(90, 70), "JPEG")):
        small, raw = shrink(content, "x", JPEG), shrink(content, "x", RAW)
        assert small.content == file(Image.fromarray(pixels(raw)), "JPEG", quality=90)
        assert (small.height, small.width) == (raw.height, raw.width)
    coarse = shrink(file(picture(90, 70)), "x", Shrinking(form="jpeg", side=32, quality=10))
    assert len(coarse.content) < len(shrink(file(picture(90, 70)), "x", JPEG).content)


def test_a_test_image_of_a_raw_store_is_the_one_of_its_original(tmp_path: Path) -> None:
    """Resize(32) of an image whose shorter side is 32 changes nothing: the published transform is done already."""
    image = picture(90, 70)
    image.save(tmp_path / "original.png")
    Image.fromarray(pixels(shrink(file(image), "x", RAW))).save(tmp_path / "stored.png")
    views = [
        evaluation_views(
            Files((tmp_path / name,)),
            np.array([0]),
            TestView(resize=32, size=28),
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            device="cpu",
        )
        for name in ("original.png", "stored.png")
    ]
    expected = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28), transforms.PILToTensor()])(image)
    assert torch.equal((views[1][0] * 255).round().to(torch.uint8), expected)
    assert (views[0] - views[1]).abs().max() * 255 < 1.01  # our own resize is PIL's to one level


def test_damaged_images_are_reasons_and_unreadable_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "whole.png").write_bytes(file(picture(40, 40)))
    (tmp_path / "cut.jpg").write_bytes(file(picture(40, 40), "JPEG")[:-80])
    whole, cut = shrink_files([tmp_path / "whole.png", tmp_path / "cut.jpg"], RAW)
    assert isinstance(whole, Small) and isinstance(cut, str)
    assert cut.startswith(f"{tmp_path / 'cut.jpg'}: not a readable image: ")
    with pytest.raises(DataError, match=r"gone.jpg: cannot be read: No such file"):
        shrink_files([tmp_path / "gone.jpg"], RAW)


def test_what_no_jpeg_can_hold_is_told() -> None:
    long = file(Image.new("RGB", (65_501, 1)))
    with pytest.raises(DataError, match="65,501 pixels are too long for a JPEG"):
        shrink(long, "x", JPEG)
    assert shrink(long, "x", RAW).width == 65_501


@pytest.mark.parametrize(("field", "value"), [("form", "png"), ("side", 0), ("quality", 0), ("quality", 96)])
def test_settings_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field}: "):
        Shrinking(**{field: value})
