"""The faults that can be tried, each with its row in the matrix of docs/faults.md and what is promised."""

from __future__ import annotations

from dataclasses import dataclass

from orchestration.chaos import files, processes, services
from orchestration.chaos.trial import Strike

AGAIN = "begins again by itself; at most one checkpoint interval is repeated; ends like a calm run"
CONTINUED = "the same command continues it; at most one checkpoint interval is repeated; ends like a calm run"
STOPS = "all ends within 10 s; then the same command continues it"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: `rows` are those of the matrix."""

    name: str
    rows: str
    title: str
    promise: str
    strike: Strike


FAULTS = (
    Fault("worker", "1", "training process killed in mid-epoch", AGAIN, processes.worker),
    Fault("sealed", "2", "training process killed right after a checkpoint", AGAIN, processes.sealed),
    Fault("hang", "3", "training process frozen for good", f"seen within a minute; {AGAIN}", processes.hang),
    Fault("controller", "4", "process that leads two workers killed", AGAIN, processes.controller),
    Fault("driver", "5", "the command itself killed", f"`status` says stopped; {CONTINUED}", processes.driver),
    Fault("interrupt", "6", "Ctrl-C", STOPS, processes.interrupt),
    Fault("terminate", "6", "SIGTERM", STOPS, processes.terminate),
    Fault("cancel", "6", "`cancel` in another terminal", STOPS, processes.cancel),
    Fault("snapshot", "8", "Ray's own snapshot torn", CONTINUED, files.snapshot),
    Fault("damaged", "9", "a bit of the newest checkpoint flipped", "the one before it is taken", files.damaged),
    Fault("gone", "10", "files of a finished stage removed", "`plan` says so, that stage alone runs again", files.gone),
    Fault("twins", "11", "the same command twice at once", "one run, which both show", processes.twins),
    Fault("heir", "11", "the first of the two killed", "the other one goes on in its run", processes.heir),
    Fault(
        "tracking",
        "13",
        "MLflow's server killed, started again",
        "training goes on, no number is lost",
        services.tracking,
    ),
    Fault("locked", "16", "MLflow's SQLite file locked for 25 s", "training goes on, no number is lost", files.locked),
    Fault(
        "full", "17", "no room for a checkpoint", f"fails and says why, the old one is whole; {CONTINUED}", files.full
    ),
    Fault("divergence", "25", "the loss becomes no number", "the stage ends as diverged", services.divergence),
    Fault(
        "search", "26", "the driver of a sweep killed", "the same command continues it, no trial twice", services.search
    ),
)
