"""Nodes in few words: how many, with how many GPUs and CPUs each. Pure.

8x8        8 nodes of 8 GPUs, and as many CPUs as anybody asks for
8x8x128    the same with 128 CPUs each
4x0x16     4 nodes of 16 CPUs
2x8x64,1x0x16      both kinds
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable

from orchestration.errors import SpecError
from orchestration.schedule import Size

NODES = "LEOCLR_OPS_NODES"
"""The variable that says what nodes an autoscaler may bring."""

MOST = 10_000  # nodes
_GROUP = re.compile(r"(\d{1,5})x(\d{1,3})(?:x(\d{1,4}))?")


def parse(text: str, place: str) -> tuple[Size, ...]:
    """Return the nodes that `text` describes.

    Raises: SpecError at `place`.

    >>> parse("2x8x64,1x0x16", "--nodes")
    (Size(cpus=64.0, gpus=8.0), Size(cpus=64.0, gpus=8.0), Size(cpus=16.0, gpus=0.0))
    """
    found: list[Size] = []
    for group in text.split(","):
        match = _GROUP.fullmatch(group.strip())
        if not match or not 1 <= int(match[1]) <= MOST or (match[2] == "0" and not match[3]):
            hint = "nodes x GPUs x CPUs: 8x8 is 8 nodes of 8 GPUs, 4x0x16 is 4 nodes of 16 CPUs"
            raise SpecError(f"expected nodes such as 8x8x64, got `{group.strip()[:40]}`", place=place, hint=hint)
        cpus = float(match[3]) if match[3] else math.inf
        found += [Size(cpus, float(match[2]))] * int(match[1])
    return tuple(found)


def in_words(nodes: Iterable[Size]) -> str:
    """Return nodes in words, those alike together.

    >>> in_words(parse("2x8x64,1x0x16", "--nodes"))
    '2 nodes of 8 GPUs and 64 CPUs, 1 node of 16 CPUs'
    """
    return ", ".join(
        f"{count} node{'' if count == 1 else 's'} of {_size(node)}" for node, count in Counter(nodes).items()
    )


def _size(node: Size) -> str:
    parts = [f"{node.gpus:g} GPU{'' if node.gpus == 1 else 's'}"] if node.gpus else []
    if math.isfinite(node.cpus):
        parts.append(f"{node.cpus:g} CPU{'' if node.cpus == 1 else 's'}")
    return " and ".join(parts)
