"""Measure the README's first figures: quickstart in a fresh home, the same again, and `--help`.

    python -m benchmarks.quickstart [--home DIR]

Prints a line a figure, then the table of the run, and writes build/quickstart.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("leoclr-ops"))


def timed(*arguments: str, home: Path) -> tuple[float, str]:
    """Run leoclr-ops and return its wall time in seconds and its stdout. Raises: CalledProcessError when it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [COMMAND, *arguments],
        env=os.environ | {"LEOCLR_OPS_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.perf_counter() - started, done.stdout


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="an empty folder for the runs; a temporary one unless named")
    named: Path | None = parser.parse_args().home
    with tempfile.TemporaryDirectory() as temporary:
        home = named or Path(temporary)
        helps = [timed("--help", home=home)[0] for _ in range(6)][1:]  # the first reads the disk
        first, table = timed("submit", "quickstart", home=home)
        second, _ = timed("submit", "quickstart", home=home)
    figures = {
        "quickstart_s": round(first, 1),
        "second_submit_s": round(second, 1),
        "help_median_s": round(statistics.median(helps), 3),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    for name, value in figures.items():
        print(f"{name:18} {value}")
    print(f"\n{table}")
    build = Path("build")
    build.mkdir(exist_ok=True)
    (build / "quickstart.json").write_text(json.dumps(figures | {"table": table}, indent=1))


if __name__ == "__main__":
    main()
