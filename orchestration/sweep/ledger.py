"""The ledger of a sweep: which trial has which params and how it ended, as JSON lines in a file that only grows.

    home/sweeps/NAME/1/identity.json   what the sweep asks; the same command with another question is refused
    home/sweeps/NAME/1/run.json        its MLflow run
    home/sweeps/NAME/1/lock            held by the process that drives it
    home/sweeps/NAME/1/about.json      how many trials it has, and by which number they are compared
    home/sweeps/NAME/1/ledger.jsonl    {"n": 3, "point": {...}, "seeds": [0]}                 trial 3 was made
                                       {"n": 3, "run": "8f31..."}                             its MLflow run
                                       {"n": 3, "state": "done", "values": {...}, ...}        how it ended
                                       {"session": 1790000000, "s": 61.5}                     seconds of one command
    home/sweeps/NAME/2/...             after `--new`

A line that a kill left half-written is cut off. Nothing else is needed to go on: points are made again from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jobs import journal
from orchestration.document import Tree
from orchestration.errors import SpecError, StoreError
from orchestration.fingerprint import differences
from orchestration.storage import Home, safe_name, write_atomic
from orchestration.sweep.result import State
from orchestration.sweep.space import Lineage, Point

Ending = Literal["done", "stopped", "failed", "diverged"]
KEPT: tuple[State, ...] = ("done", "stopped", "diverged")  # a failed trial is tried again, as a failed stage is
_MOST_DIFFERENCES = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One trial to be made: which point with which seeds."""

    number: int
    point: Point
    seeds: tuple[int, ...]
    before: Lineage = ()  # of a member of a population: its values in the generations before this one


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of a trial."""

    number: int
    point: Mapping[str, Tree]
    seeds: tuple[int, ...]
    state: State = "waiting"
    reason: str = ""
    run_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    history: tuple[tuple[int, float], ...] = ()
    seconds: float = 0.0
    before: Lineage = ()  # of a member of a population: its values in the generations before


class Ledger:
    """The ledger in one folder; only the process that holds the folder's lock writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[int, Entry] = {}  # by number, in the order in which they were made
        self._sessions: dict[str, float] = {}
        self._read = 0  # bytes
        self._read_on()

    @property
    def _path(self) -> Path:
        return self.folder / "ledger.jsonl"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def run(self) -> Path:
        """The file that names the MLflow run."""
        return self.folder / "run.json"

    @property
    def spent_s(self) -> float:
        """Seconds of all commands together."""
        return sum(self._sessions.values())

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return self._read

    def about(self) -> dict[str, Any]:
        """Return what `tell_about` noted; {} before that."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "about.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def tell_about(self, **facts: Any) -> None:
        """Note what a look at the sweep needs to know besides its trials."""
        write_atomic(self.folder / "about.json", json.dumps(facts))

    def claim(self) -> None:
        """Read what other processes have made of it, and cut off half a line, once the lock is held."""
        self.entries, self._sessions, self._read = {}, {}, 0
        self._read_on()
        if self._path.exists() and self._path.stat().st_size > self._read:
            os.truncate(self._path, self._read)

    def make(self, asked: Asked, labels: Mapping[str, str]) -> None:
        """Note a new trial, before anything of it runs."""
        line = {"n": asked.number, "point": dict(asked.point), "seeds": list(asked.seeds), "labels": dict(labels)}
        self._write(line | ({"before": list(asked.before)} if asked.before else {}))

    def attach(self, number: int, run_id: str) -> None:
        """Note the MLflow run of a trial, which is under way again."""
        self._write({"n": number, "run": run_id})

    def end(self, entry: Entry) -> None:
        """Note how a trial ended."""
        self._write(
            {
                "n": entry.number,
                "state": entry.state,
                "reason": entry.reason,
                "values": dict(entry.values),
                "history": [list(pair) for pair in entry.history],
                "seconds": round(entry.seconds, 3),
            }
        )

    def spend(self, session: str, seconds: float) -> None:
        """Note how long a command has been at it."""
        self._write({"session": session, "s": round(seconds, 3)})

    def _read_on(self) -> None:
        try:
            lines, self._read = journal.read(self._path, self._read)
            for line in lines:
                self._take(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "mend that line, or begin another sweep with `--new`, which reuses every stage"
            raise StoreError(f"the disk, or somebody, changed it: {error}", place=str(self._path), hint=hint) from error

    def _write(self, line: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._read_on()

    def _take(self, line: Mapping[str, Any]) -> None:
        if "session" in line:
            self._sessions[line["session"]] = line["s"]
            return
        number = int(line["n"])
        if "point" in line:
            before = tuple(line.get("before", ()))
            self.entries[number] = Entry(
                number, line["point"], tuple(line["seeds"]), labels=line["labels"], before=before
            )
        elif "run" in line:
            self.entries[number] = replace(self.entries[number], run_id=line["run"], state="running", reason="")
        else:
            pairs = tuple((int(step), float(value)) for step, value in line["history"])
            said = {"state": line["state"], "reason": line["reason"], "values": line["values"]}
            self.entries[number] = replace(self.entries[number], **said, history=pairs, seconds=line["seconds"])


def root_of(home: Home, name: str) -> Path:
    """Return the folder of all sweeps of that name."""
    return home.path / "sweeps" / safe_name(name)


def folder_of(home: Home, name: str, *, new: bool = False) -> Path:
    """Return the folder of the latest sweep of that name, or of the one after it."""
    root = root_of(home, name)
    latest = max((int(path.name) for path in root.glob("*") if path.name.isdecimal()), default=0)
    return root / str(latest + new if latest else 1)


def agree(folder: Path, identity: Mapping[str, Any]) -> None:
    """Note what a sweep asks, or refuse where the folder's sweep asks something else. Raises: SpecError."""
    path = folder / "identity.json"
    if not path.exists():
        write_atomic(path, json.dumps(identity, indent=1))
        return
    before: dict[str, Any] = json.loads(path.read_text())
    if changes := differences(before, identity):
        more = len(changes) - _MOST_DIFFERENCES
        facts = [*changes[:_MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
        fact = "\n  ".join(["the sweep of this name asks something else:", *facts])
        hint = "`--new` begins another, which reuses every stage that is the same; or give the file another `name:`"
        raise SpecError(fact, place=folder.parent.name, hint=hint)
