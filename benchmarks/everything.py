"""Run all comparisons with peers, one after the other, each in a process of its own: `make bench`.

    python -m benchmarks.everything [--rounds N]

Prints one table and writes build/bench.json, a list of {name, peer, ratio, min, max, goal, at_most, note, holds}.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import pairs
from benchmarks.pairs import Figure

PARTS = ("input", "step", "evaluation", "orchestration", "sweep")
WRITTEN = Path("build", "bench.json")


def main() -> None:
    """Run, print, write; exit with 1 where a goal does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=pairs.ROUNDS)
    rounds = parser.parse_args().rounds
    rows = [row for part in PARTS for row in _run(part, rounds)]
    WRITTEN.parent.mkdir(exist_ok=True)
    WRITTEN.write_text(json.dumps(rows, indent=1))
    figures = [Figure(**{key: value for key, value in row.items() if key != "holds"}) for row in rows]
    print("\n" + pairs.markdown(figures))
    sys.exit(not all(figure.holds for figure in figures))


def _run(part: str, rounds: int) -> list[dict[str, Any]]:
    """Return the figures of benchmarks/PART.py. Raises: CalledProcessError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "figures.json")
        words = [sys.executable, "-m", f"benchmarks.{part}", "--rounds", str(rounds), "--json", str(written)]
        began = time.monotonic()
        subprocess.run(words, check=True)
        print(f"{part}: {(time.monotonic() - began) / 60:.1f} minutes\n", flush=True)
        found: list[dict[str, Any]] = json.loads(written.read_text())
    return found


if __name__ == "__main__":
    main()
