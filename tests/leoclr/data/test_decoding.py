import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from leoclr.data import decoding
from leoclr.data.contract import DataError
from leoclr.data.decoding import decode

PHOTO_HWC = np.ascontiguousarray(load_sample_images().images[0][100:165, 200:281])
ROTATED = Image.Exif()
ROTATED[0x112] = 6  # orientation: a quarter turn
KINDS: dict[str, dict[str, object]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2, "quality": 40},
    "quality 100": {"quality": 100},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "RGB inside": {"keep_rgb": True},
    "rotated by EXIF": {"exif": ROTATED},
}


def encoded(pixels_HWC: NDArray[np.uint8] = PHOTO_HWC, mode: str = "RGB", form: str = "JPEG", **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).convert(mode).save(buffer, form, **how)
    return buffer.getvalue()


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


@pytest.fixture(autouse=True, scope="module")
def torchvision_decodes() -> None:
    assert decoding._jpeg_decoder() is not None


@pytest.mark.parametrize("kind", KINDS)
def test_torchvision_reads_a_jpeg_as_pillow_does(kind: str) -> None:
    for mode, side in itertools.product(("RGB", "L"), (1, 17, 65)):
        keeps = "keep_rgb" not in KINDS[kind] or mode == "RGB"  # gray has no colors to keep
        data = encoded(PHOTO_HWC[:side, : side + 8], mode, **(KINDS[kind] if keeps else {}))
        fast_HWC = decoding._decode_jpeg(np.frombuffer(data, np.uint8))
        assert fast_HWC is not None and np.array_equal(fast_HWC, by_pillow(data))
        assert np.array_equal(decode(data, "photo"), fast_HWC)


@pytest.mark.parametrize("mode", ["CMYK", "RGB", "L"])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_content_tells_what_an_image_is(mode: str, form: str) -> None:
    data = encoded(mode="RGB" if mode == "CMYK" and form not in ("JPEG", "TIFF") else mode, form=form)
    assert np.array_equal(decode(data, "wrong-name.jpg"), by_pillow(data))


def test_damaged_data_ends_alike_with_either_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    whole = [encoded(mode=mode, progressive=progressive) for mode in ("RGB", "L") for progressive in (False, True)]
    damaged = [damage(data, rng) for data in whole for _ in range(150)]
    fast = [outcome(data) for data in damaged]
    monkeypatch.setattr(decoding, "_jpeg_decoder", lambda: None)
    assert fast == [outcome(data) for data in damaged]
    assert 100 < sum(isinstance(ending, bytes) for ending in fast) < 500  # both endings were seen


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(2, len(data)))
    return [
        data[:place],
        data[:place] + rng.bytes(1) + data[place + 1 :],
        data[:place] + rng.bytes(5) + data[place:],
        data[:place] + data[place + 7 :],
    ][rng.integers(4)]


def outcome(data: bytes) -> bytes | str:
    try:
        return decode(data, "damaged").tobytes()
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("kind", [bytes, memoryview, lambda data: np.frombuffer(data, np.uint8).copy()])
def test_pixels_are_the_callers_own_and_the_bytes_stay(kind: type) -> None:
    data = encoded()
    given = kind(data)
    pixels_HWC = decode(given, "photo")
    assert pixels_HWC.flags.writeable and pixels_HWC.flags.c_contiguous
    pixels_HWC[:] = 0
    assert bytes(given) == data


@pytest.mark.parametrize("data", [b"", b"no image", encoded()[:200], encoded(form="PNG")[:60]])
def test_what_cannot_be_decoded_is_named_in_the_same_words_each_time(data: bytes) -> None:
    with pytest.raises(DataError, match="^photo: not a readable image: ") as first:
        decode(data, "photo")
    with pytest.raises(DataError) as second:
        decode(data, "photo")
    assert str(first.value) == str(second.value)


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PHOTO_HWC.size // 3 // 2 - 1)
    with pytest.raises(DataError, match="decompression bomb"):
        decode(encoded(), "photo")


def test_a_process_without_torch_decodes_without_it() -> None:
    code = (
        "import sys; from leoclr.data.decoding import decode; decode(sys.stdin.buffer.read(), 'photo');"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], input=encoded(), check=True)


def test_what_would_start_a_program_is_no_image() -> None:
    """Pillow knows EPS, and has Ghostscript run what is in it."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    assert Image.open(io.BytesIO(eps)).format == "EPS"
    with pytest.raises(DataError, match=r"x\.jpg: not a readable image: no known image format"):
        decode(eps, "x.jpg")
