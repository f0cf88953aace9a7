"""What is going on in a sweep, from its ledger and the store; and how to stop it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from orchestration import storage
from orchestration.cancel import GRACE_S, end_tree
from orchestration.errors import NotFound, StoreError
from orchestration.folders import read_run
from orchestration.progress import duration
from orchestration.reconcile import reconcile
from orchestration.records import Submission
from orchestration.sweep.ledger import Entry, Ledger
from orchestration.tracking import Store


@dataclass(frozen=True, slots=True)
class SweepLook:
    """A sweep at one moment."""

    name: str
    run_id: str | None
    alive: bool  # a process drives it
    counts: Mapping[str, int]  # trials by state
    best: tuple[Entry, str, float] | None  # the trial, the objective, its value
    total: int | None  # None where nobody noted it
    seconds_left: float | None
    spent_s: float
    entries: tuple[Entry, ...]


def look(ledger: Ledger) -> SweepLook:
    """Return how far a sweep is."""
    alive, about = is_driven(ledger), ledger.about()
    entries = tuple(entry for _, entry in sorted(ledger.entries.items()))
    states = [_word(entry, alive=alive) for entry in entries]
    total = about.get("total")
    total = total if isinstance(total, int) else None
    left = max(0, total - len(entries)) if total is not None else 0
    counts = Counter(states) + Counter({"waiting": left})
    return SweepLook(
        name=ledger.folder.parent.name,
        run_id=read_run(ledger.run),
        alive=alive,
        counts=counts,
        best=best(entries, str(about.get("objective", "")), str(about.get("direction", "max"))),
        total=total,
        seconds_left=_left(entries, counts, about.get("at_once")) if alive else None,
        spent_s=ledger.spent_s,
        entries=entries,
    )


def best(entries: tuple[Entry, ...], objective: str, direction: str) -> tuple[Entry, str, float] | None:
    """Return the best finished trial by the first objective, of those whose number is finite."""
    done = [e for e in entries if e.state == "done" and math.isfinite(e.values.get(objective, math.nan))]
    if not done:
        return None
    pick = max if direction == "max" else min
    found = pick(done, key=lambda entry: entry.values[objective])
    return found, objective, found.values[objective]


def is_driven(ledger: Ledger) -> bool:
    """Return whether a process of this machine holds the sweep."""
    if not ledger.lock.exists():
        return False
    try:
        with storage.locked(ledger.lock):
            return False
    except storage.Busy:
        return True


def in_words(seen: SweepLook) -> str:
    """Return a line on the sweep, and one for each trial."""
    state = "running" if seen.alive else "over" if not seen.counts.get("waiting") else "stopped"
    order = ("done", "running", "waiting", "stopped", "diverged", "failed")
    counts = ", ".join(f"{seen.counts[word]} {word}" for word in order if seen.counts.get(word))
    lines = [f"{seen.name}: {state}, run {(seen.run_id or 'none')[:8]}: {counts}; {duration(seen.spent_s)} spent"]
    if seen.best:
        entry, objective, value = seen.best
        lines.append(f"best so far: {objective} {value:.4g}, trial {entry.number} {_labels(entry)}")
    if seen.seconds_left is not None:
        lines.append(f"about {duration(seen.seconds_left)} left")
    rows = [(str(e.number), _word(e, alive=seen.alive), _labels(e), _seeds(e), _said(e)) for e in seen.entries]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    for row in rows:
        cells = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False))
        lines.append(f"  {cells}  {row[4]}".rstrip())
    return "\n".join(lines)


def to_json(seen: SweepLook) -> dict[str, object]:
    """Return the same as JSON takes it; a number that is not finite becomes null."""
    return {
        "name": seen.name,
        "run_id": seen.run_id,
        "state": "running" if seen.alive else "over" if not seen.counts.get("waiting") else "stopped",
        "counts": dict(seen.counts),
        "best": None if seen.best is None else {"trial": seen.best[0].number, seen.best[1]: seen.best[2]},
        "seconds_left": seen.seconds_left,
        "spent_s": seen.spent_s,
        "trials": [
            {
                "number": entry.number,
                "state": _word(entry, alive=seen.alive),
                "labels": dict(entry.labels),
                "seeds": list(entry.seeds),
                "run_id": entry.run_id,
                "values": {title: _finite(value) for title, value in entry.values.items()},
                "reason": entry.reason,
                "seconds": _finite(entry.seconds),
            }
            for entry in seen.entries
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def cancel(store: Store, name: str, ledger: Ledger, *, grace_s: float = GRACE_S) -> int:
    """Stop the process that drives a sweep and all that it started; return how many processes had to be killed.

    Raises: NotFound when nothing drives it; StoreError when that is on another machine.
    """
    reconcile(store)
    run_id = read_run(ledger.run)
    found = next((each for each in store.sweeps() if each.run_id == run_id), None)
    if found is None or found.status != "RUNNING":
        raise NotFound("it does not run", place=f"sweep {name}", hint=f"`leoclr-ops status {name}` shows it")
    killed = _end_owner(found, name, grace_s)
    reconcile(store)
    return killed


def _end_owner(sweep: Submission, name: str, grace_s: float) -> int:
    alive = sweep.owner.alive()
    if alive is None:
        raise StoreError(f"it runs on {sweep.host}", place=f"sweep {name}", hint="cancel it there")
    if not alive or sweep.pid == os.getpid():
        return 0
    try:
        return end_tree(psutil.Process(sweep.pid), grace_s)
    except psutil.NoSuchProcess:
        return 0


def _word(entry: Entry, *, alive: bool) -> str:
    return "waiting" if entry.state == "running" and not alive else entry.state


def _labels(entry: Entry) -> str:
    return " ".join(label if axis == "method" else f"{axis}={label}" for axis, label in entry.labels.items())


def _seeds(entry: Entry) -> str:
    return "seed " + ",".join(map(str, entry.seeds))


def _said(entry: Entry) -> str:
    values = ", ".join(f"{title} {value:.4g}" for title, value in entry.values.items())
    seen = f"{entry.history[-1][1]:.4g} at epoch {entry.history[-1][0]}" if entry.history and not values else ""
    return "; ".join(filter(None, [values, entry.reason or seen]))


def _left(entries: tuple[Entry, ...], counts: Mapping[str, int], at_once: object) -> float | None:
    done = [entry.seconds for entry in entries if entry.state == "done"]
    todo = counts.get("waiting", 0) + counts.get("running", 0) / 2  # those that run are half done, on average
    if not done or not isinstance(at_once, int):
        return None
    return sum(done) / len(done) * todo / max(1, min(at_once, counts.get("waiting", 0) + counts.get("running", 0)))
