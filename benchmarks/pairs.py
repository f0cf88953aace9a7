"""Time this project and a peer in turn, and say whether the goal holds: the only way a benchmark here takes a ratio.

    python -m benchmarks.NAME [--rounds N] [--json FILE]

A ratio is that of two neighboring runs, so that a machine that slows down slows both. Above 1: this project is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

Run = Callable[[], object]
ROUNDS = 3  # an odd number: the median is one of them


@dataclass(frozen=True, slots=True)
class Figure:
    """What came of one comparison."""

    name: str  # what was done, with its size
    peer: str
    ratio: float  # median over the rounds
    min: float
    max: float
    goal: float
    at_most: bool = False  # whether the ratio may not exceed the goal, instead of having to reach it
    note: str = ""  # what the ratio leaves out, such as absolute rates

    @property
    def holds(self) -> bool:
        """Whether the median reaches the goal. A ratio that is no number holds nothing."""
        return math.isfinite(self.ratio) and (self.ratio <= self.goal if self.at_most else self.ratio >= self.goal)


def compare(
    name: str, ours: Run, peer: tuple[str, Run], *, goal: float, rounds: int = ROUNDS, note: str = ""
) -> Figure:
    """Return how many times faster `ours` is than the named peer; one round of both before does not count."""
    their_name, theirs = peer
    seconds(ours), seconds(theirs)
    return of_ratios(name, their_name, [_pair(ours, theirs) for _ in range(rounds)], goal=goal, note=note)


def of_ratios(
    name: str, peer: str, ratios: Sequence[float], *, goal: float, at_most: bool = False, note: str = ""
) -> Figure:
    """Return the figure of ratios that were taken elsewhere, neighbor by neighbor.

    >>> of_ratios("sum", "numpy", [3.0, 1.0, 2.0], goal=1.5).holds
    True
    """
    return Figure(name, peer, statistics.median(ratios), min(ratios), max(ratios), goal, at_most, note)


def seconds(act: Run) -> float:
    """Return how long one run takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and those that it starts, on one core inside the block, with one thread for torch."""
    import torch

    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})  # the last one: interrupts are mostly served by the first
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def markdown(figures: Iterable[Figure]) -> str:
    """Return the table that the README shows."""
    head = "| what | against | times | least to greatest | goal | holds |\n|---|---|---:|---:|---:|---|"
    return "\n".join([head, *map(_row, figures)])


def main(figures: Callable[[int], Iterable[Figure]]) -> None:
    """Run a benchmark from its command line: print each figure as it comes, and write all where that is asked for.

    `figures` takes the number of rounds.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of timings of each comparison, an odd number")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    asked = parser.parse_args()
    found: list[Figure] = []
    print(markdown([]), flush=True)
    for figure in figures(asked.rounds):
        print(_row(figure), flush=True)
        found.append(figure)
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps([asdict(each) | {"holds": each.holds} for each in found], indent=1))


def _pair(ours: Run, theirs: Run) -> float:
    own = seconds(ours)
    return seconds(theirs) / own


def _row(figure: Figure) -> str:
    goal = f"{'<=' if figure.at_most else '>='} {figure.goal:g}"
    note = f" ({figure.note})" if figure.note else ""
    spread = f"{figure.min:.2f} to {figure.max:.2f}"
    holds = "yes" if figure.holds else "no"
    return f"| {figure.name}{note} | {figure.peer} | {figure.ratio:.2f} | {spread} | {goal} | {holds} |"
