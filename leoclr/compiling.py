"""torch's compiler on the networks of a method; the Python around them stays as it is.

Not a setting of a pre-training but of where it runs: it changes numbers by the rounding of fused kernels alone, as
another kind of device does, so a compiled and a plain run share their fingerprint.
"""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # a plan reads `Compile` and needs no torch for it
    import torch
    from torch import nn

Compile = Literal["auto", "on", "off"]
"""auto: on CUDA. A CPU gains 1.1x in fp32 and 1.02x in bf16 (ResNet-18, 32 pixels), for a minute of compiling.

How views are colored goes with it, but for a CPU, where that is fast unless it is `off`: see `leoclr.augment.native`.
"""

_NETWORKS = ("backbone", "head", "predictor")  # how methods name what maps a batch to a batch, or how its name ends


def compiles(choice: Compile, device: torch.device, *, breaks: bool) -> bool:
    """Return whether to compile; `breaks`: batch norm talks to other workers, where a graph would end at every norm.

    >>> import torch
    >>> compiles("auto", torch.device("cpu"), breaks=False), compiles("on", torch.device("cpu"), breaks=True)
    (False, True)
    """
    return choice == "on" or (choice == "auto" and device.type == "cuda" and not breaks and _can_compile(device.type))


@functools.cache
def _can_compile(kind: str) -> bool:
    """Return whether torch can compile for a kind of device here, or warn of why not.

    For a GPU that takes a C compiler and Python's headers (Triton's launcher), and a GPU that Triton knows.
    """
    import torch

    own_cache()
    try:
        torch.compile(lambda ones: 2 * ones, dynamic=False)(torch.ones(8, device=kind))
    except Exception as error:  # noqa: BLE001  # whatever it is: the same numbers come without
        first = str(error).strip().partition("\n")[0]
        warnings.warn(f"networks are not compiled, which is slower: {type(error).__name__}: {first}", stacklevel=2)
        return False
    return True


def compile_networks(method: nn.Module, *, backend: str = "inductor", whole: bool = False) -> None:
    """Compile the trunks and heads of `method`, the slow ones too, at their first call; changed in place.

    No module is put around another one, so names in the state, parameters and hooks stay as they are. Each size of an
    image is compiled for itself: of sizes left open, kernels are slower. `whole` refuses a network that does not
    become one graph.
    """
    own_cache()
    for network in networks(method):
        network.compile(backend=backend, dynamic=False, fullgraph=whole)


def own_cache() -> None:
    """Have torch keep what it compiles in the user's cache, unless $TORCHINDUCTOR_CACHE_DIR says where.

    Its own choice is /tmp/torchinductor_NAME: whoever makes that folder first puts there what this process will run.
    Where there can be no cache, it goes to a new folder of this process, with a warning.
    """
    from leoclr.data.digest_cache import cache_home  # here, since it imports numpy

    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    folder = cache_home() / "compiled"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="leoclr-compiled-"))
        warnings.warn(f"what is compiled is not kept: {error}", stacklevel=2)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def networks(method: nn.Module) -> Iterator[nn.Module]:
    """Yield the trunks, heads and predictors of `method`, wherever they are in it, outermost first."""
    for name, child in method.named_children():
        if name.endswith(_NETWORKS):
            yield child
        else:
            yield from networks(child)
