"""The page of all fields says what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from leoclr import methods
from leoclr.evaluate import protocols

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "reference.py"))["page"]()
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == made, "python docs/reference.py > docs/reference.md"
    for name in (
        *methods.METHODS,
        *(f"{kind}: {each}" for kind, known in protocols.PROTOCOLS.items() for each in known),
    ):
        assert f"\n### {name}\n" in made
    for link in re.findall(r"\]\(#([^)]*)\)", made):
        assert f"\n### {link}\n" in made.lower()
    rows = [line for line in made.splitlines() if line.startswith("| `")]
    assert "| `temperature` | number | `0.2` | dimensionless, above 0; moco README, v2 command (v1: 0.07) |" in rows
    assert (
        "| `batch` | whole number | `1024` | *images of one step, over all workers (B.8); cut to the images at hand* |"
        in rows
    )
    assert "| `dataset` | `mnist5k`" in made
