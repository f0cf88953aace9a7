"""Flip, colors and normalization of views on a CPU by machine code: the numbers of `color`, within rounding.

One operation of torch at a time passes over an image some fifty times; `native.c` does in two or three passes what was
drawn for it, ten to twenty times faster. It is compiled on the machine that runs it, at the first use, in 2 seconds,
and kept in the user's cache. Where that cannot be, a warning says so once, and `color` does the work.

Axes: G images, view after view; P numbers of an image, in the order of native.c.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from leoclr.augment.color import Channels, Color, tap_weights
from leoclr.data.digest_cache import cache_home

_SOURCE = Path(__file__).with_name("native.c")
# No operation here sets or reads errno, traps, or the sign of a zero: with that said, every loop becomes vectors.
_FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-shared", "-fPIC")
_FLAGS_OF = {  # by what torch says of the processor
    "AVX512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
    "AVX2": ("-mavx2", "-mfma"),
}


def color_native(
    images_G3HW: Tensor, drawn: Color, flip_G: Tensor, *, radius: int, scale: tuple[Channels, Channels] | None
) -> Tensor:
    """Return images of levels 0..255, uint8 or float32, flipped and colored: float32 [G, 3, S, S], in 0..1.

    `radius` is the blur's. `scale`: mean and deviation, by which they are normalized where they are given. Images are
    shared among as many threads as torch has, and no number depends on the others of the batch. Only where `ready()`.
    """
    count, _, side, _ = images_G3HW.shape
    radius = min(radius, side - 1)
    bytes_there = images_G3HW.dtype == torch.uint8
    pixels_G = images_G3HW.permute(0, 2, 3, 1).contiguous() if bytes_there else images_G3HW.float().contiguous()
    colored_G3HW = torch.empty((count, 3, side, side))
    rows_GP = _pack(drawn, flip_G, radius)
    scale_6 = torch.tensor(scale or ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))).flatten()
    threads = max(1, min(torch.get_num_threads(), count))
    bounds = [count * part // threads for part in range(threads + 1)]

    def act(first: int, stop: int) -> None:
        addresses = [tensor[first:].data_ptr() for tensor in (pixels_G, colored_G3HW, rows_GP)]
        code = _machine_code()
        assert code is not None
        pixels, colored, rows = map(ctypes.c_void_p, addresses)
        counts = ctypes.c_int64(stop - first), side, radius
        if code.color_views(pixels, int(bytes_there), colored, rows, *counts, ctypes.c_void_p(scale_6.data_ptr())):
            raise MemoryError

    if threads == 1:
        act(0, count)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(act, bounds[:-1], bounds[1:]))
    return colored_G3HW


def ready() -> bool:
    """Return whether there is machine code for this processor; the first call compiles it, or warns of why not."""
    return _machine_code() is not None


def compile_code(to: Path) -> None:
    """Compile native.c by $CC, else by the C compiler of this machine, to the library `to`: whole or not at all.

    Raises: OSError when there is no compiler or no place for the library; subprocess.SubprocessError when it fails.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [_first_compiler()]
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        draft = Path(folder, to.name)
        command = [*compiler, *_flags(), str(_SOURCE), "-o", str(draft), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603  # the user's own compiler
        draft.replace(to)


def _first_compiler() -> str:
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None:
        raise FileNotFoundError("there is no C compiler: neither cc, gcc nor clang is on PATH, and $CC names none")
    return found


def _flags() -> tuple[str, ...]:
    return (*_FLAGS, *_FLAGS_OF.get(torch.backends.cpu.get_cpu_capability(), ()))


@functools.cache
def _machine_code() -> ctypes.CDLL | None:
    told = " ".join((platform.system(), platform.machine(), *_flags()))
    name = hashlib.sha256(_SOURCE.read_bytes() + told.encode()).hexdigest()[:16]
    library = cache_home() / "machine-code" / f"{name}.so"
    try:
        if not library.exists():
            compile_code(library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None)
        why = said.decode(errors="replace").strip() if said else str(error)
        warnings.warn(f"views are colored operation by operation, ten times slower: {why}", stacklevel=2)
        return None


def _pack(drawn: Color, flip_G: Tensor, radius: int) -> Tensor:
    """Return all that was drawn for each image as float32 [G, P]; of the blur's taps those from the middle on."""
    flags_G1 = (numbers_G[:, None].float() for numbers_G in (flip_G, drawn.gray_N, drawn.threshold_N))
    flip_G1, gray_G1, threshold_G1 = flags_G1
    taps_GT = tap_weights(drawn.sigma_N, radius)[:, radius:]
    return torch.cat((flip_G1, drawn.order_NJ.float(), drawn.factors_NJ, gray_G1, threshold_G1, taps_GT), dim=1)
