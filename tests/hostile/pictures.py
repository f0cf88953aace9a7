"""Image files that go wrong: cut, flipped, empty, bombs, unusual kinds, and kinds that only pretend."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

SIDE = 24
_GIF_IMAGE = b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;"
_BMP_HEAD = struct.pack("<IiiHHIIiiII", 40, 1, -(1 << 31), 1, 24, 0, 0, 0, 0, 0, 0)
KINDS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def unusual() -> dict[str, bytes]:
    """Return honest files of every kind that turns up in data sets, by what is unusual in them."""
    color = Image.fromarray(pixels(0, SIDE, SIDE + 3, 3))
    deep = Image.fromarray(pixels(1, SIDE, SIDE).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turned right
    frames = [Image.fromarray(pixels(seed, SIDE, SIDE, 3)) for seed in (2, 3)]
    return {
        **{f"plain {form}": encoded(color, form) for form in KINDS},
        "CMYK": encoded(color.convert("CMYK"), "JPEG"),
        "gray": encoded(color.convert("L"), "JPEG"),
        "progressive": encoded(color, "JPEG", progressive=True),
        "turned by EXIF": encoded(color, "JPEG", exif=turned),
        "palette": encoded(color.convert("P"), "PNG"),
        "palette with transparency": encoded(color.convert("P"), "PNG", transparency=3),
        "bilevel": encoded(color.convert("1"), "PNG"),
        "transparent": encoded(color.convert("RGBA"), "PNG"),
        "gray and transparent": encoded(color.convert("LA"), "PNG"),
        "16 bit": encoded(deep, "PNG"),
        "16 bit TIFF": encoded(deep, "TIFF"),
        "float": encoded(Image.fromarray(pixels(4, SIDE, SIDE).astype(np.float32)), "TIFF"),
        "LAB": encoded(color.convert("LAB"), "TIFF"),
        "moving": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "several pages": encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "one pixel": encoded(color.crop((0, 0, 1, 1)), "PNG"),
        "one row": encoded(color.crop((0, 0, SIDE, 1)), "JPEG"),
    }


def bombs() -> dict[str, bytes]:
    """Return small files that promise more pixels, text or pages than any memory holds."""
    return {
        "PNG of 10^10 pixels": _png(100_000, 100_000, zlib.compress(b"\0" * 100_000)),
        "PNG of 2^62 pixels": _png((1 << 31) - 1, (1 << 31) - 1, b""),
        "PNG with a text of 64 MB": _png(1, 1, zlib.compress(b"\0\0\0\0"), text=zlib.compress(b"\0" * (1 << 26))),
        "GIF of 65535 x 65535": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + _GIF_IMAGE,
        "BMP of 2^31 rows": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + _BMP_HEAD,
        "PPM of 10^9 columns": b"P6 1000000000 1000000000 255\n",
        "TIFF that points to itself": b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 8, 8),
    }


def pretenders() -> dict[str, bytes]:
    """Return files that are no images, or ones that decoders start programs for."""
    return {
        "empty": b"",
        "zero bytes": b"\0" * 5000,
        "a JPEG's first bytes": b"\xff\xd8\xff",
        "EPS, which Ghostscript runs": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x)\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "HTML": b"<html><script>alert(1)</script></html>",
        "a pickle": b"cos\nsystem\n(S'touch x'\ntR.",
        "text": "na\u00efve".encode() * 100,
    }


@functools.cache
def fixed() -> dict[str, bytes]:
    """Return all of these by what is odd about them."""
    return {**unusual(), **bombs(), **pretenders()}


def _png(width: int, height: int, data: bytes, text: bytes = b"") -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"zTXt", b"k\0\0" + text)] if text else []
    chunks += [(b"IDAT", data), (b"IEND", b"")]
    framed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Return an image file that was cut, flipped, joined or left as it was."""
    content = bytearray(fixed()[draw(st.sampled_from(sorted(fixed())))])
    act = draw(st.sampled_from(("cut", "flip", "head", "middle", "join", "none")))
    if not content or act == "none":
        return bytes(content)
    if act == "cut":
        return bytes(content[: draw(st.integers(0, len(content)))])
    if act == "join":
        return bytes(content) + fixed()[draw(st.sampled_from(sorted(fixed())))]
    if act == "middle":
        at = draw(st.integers(0, len(content) - 1))
        del content[at : at + draw(st.integers(1, 64))]
        return bytes(content)
    reach = min(len(content), 64 if act == "head" else len(content))
    for _ in range(draw(st.integers(1, 8))):
        content[draw(st.integers(0, reach - 1))] = draw(st.integers(0, 255))
    return bytes(content)
