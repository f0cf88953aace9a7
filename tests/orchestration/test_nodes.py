"""Nodes in few words are read as they are meant, and nonsense is refused with an example."""

import math

import pytest

from orchestration import nodes
from orchestration.errors import SpecError
from orchestration.schedule import Size


def test_nodes_are_read_and_said() -> None:
    assert nodes.parse("8x8", "n") == (Size(math.inf, 8),) * 8
    assert nodes.parse("2x8x64, 1x0x16", "n") == (Size(64, 8), Size(64, 8), Size(16, 0))
    assert nodes.in_words(nodes.parse("1x1x1,2x8", "n")) == "1 node of 1 GPU and 1 CPU, 2 nodes of 8 GPUs"


@pytest.mark.parametrize(
    "text", ["", "8", "8x", "x8", "0x8", "8x0", "8x8x8x8", "-1x8", "8x8.5", "99999x8", "1x8,", "a" * 99]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="^--nodes: expected nodes such as 8x8x64, got `") as caught:
        nodes.parse(text, "--nodes")
    assert "8x8 is 8 nodes of 8 GPUs" in caught.value.hint
    assert len(str(caught.value)) < 120
