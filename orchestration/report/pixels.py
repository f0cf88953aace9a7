"""Images side by side as one picture, small enough to stand inside a page. H rows, W columns, C channels."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = "NDArray[np.uint8]"  # [H, W, 3]

MOST, LEAST = 112, 64  # pixels of a side: larger images are made smaller, smaller ones are shown pixel by pixel
GAP, BAR = 4, 3  # pixels
YES, NO = (0, 132, 120, 255), (222, 98, 0, 255)  # of the bar below an image; NO is dashed besides
DASH = 6  # pixels


@dataclass(frozen=True, slots=True)
class Sheet:
    """A picture as a data URI."""

    source: str
    width: int
    height: int


def sheet(rows: Sequence[Sequence[Image]], marks: Sequence[Sequence[bool | None]] = ()) -> Sheet:
    """Return images in rows; `marks` draws a bar below an image, whole for True and dashed for False."""
    side = max(max(image.shape[:2]) for row in rows for image in row)
    times = max(1, -(-LEAST // side))
    cell = min(side * times, MOST)
    step = cell + GAP + (BAR + GAP if marks else 0)
    page = np.zeros((len(rows) * step - GAP, max(map(len, rows)) * (cell + GAP) - GAP, 4), np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = i * step, j * (cell + GAP)
            _put(page[top : top + cell, left : left + cell], _fit(image, cell, times))
            if marks and (mark := marks[i][j]) is not None:
                below = top + cell + GAP // 2
                _bar(page[below : below + BAR, left : left + cell], mark)
    return Sheet(_uri(page, lossless=side <= LEAST), page.shape[1], page.shape[0])


def _fit(image_HWC: Image, cell: int, times: int) -> Image:
    if max(image_HWC.shape[:2]) * times <= cell:
        return image_HWC.repeat(times, axis=0).repeat(times, axis=1)
    from PIL import Image as Picture

    picture = Picture.fromarray(image_HWC)
    picture.thumbnail((cell, cell))
    return np.asarray(picture)


def _put(place_HW4: Image, image_HWC: Image) -> None:
    """Put an image into the middle of its place."""
    height, width = image_HWC.shape[:2]
    top, left = (place_HW4.shape[0] - height) // 2, (place_HW4.shape[1] - width) // 2
    place_HW4[top : top + height, left : left + width, :3] = image_HWC
    place_HW4[top : top + height, left : left + width, 3] = 255


def _bar(place_HW4: Image, mark: bool) -> None:
    if mark:
        place_HW4[:] = YES
        return
    for left in range(0, place_HW4.shape[1], 2 * DASH):
        place_HW4[:, left : left + DASH] = NO


def _uri(page_HW4: Image, *, lossless: bool) -> str:
    from PIL import Image as Picture

    buffer = io.BytesIO()
    if lossless:
        Picture.fromarray(page_HW4, "RGBA").save(buffer, "PNG", optimize=True)
    else:
        Picture.fromarray(page_HW4, "RGBA").save(buffer, "WEBP", quality=82, method=4)
    kind = "png" if lossless else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
