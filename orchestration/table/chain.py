"""What runs stand on, link by link: an evaluation on its pre-training, by fingerprints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import jobs
from orchestration import records
from orchestration.records import StageRun


class Runs(Protocol):
    """What a chain asks of the tracking store."""

    def stages(self, kind: str) -> list[StageRun]: ...


@dataclass(frozen=True, slots=True)
class Chain:
    """All runs of a store: by id, and by fingerprint the one that others stand on (finished, and the newest)."""

    runs: Mapping[str, StageRun]
    origins: Mapping[str, StageRun]

    @classmethod
    def of(cls, store: Runs) -> Chain:
        """Read every stage run."""
        runs = {run.run_id: run for kind in jobs.STAGES for run in store.stages(kind)}
        order = sorted(runs.values(), key=lambda run: (run.status == "FINISHED", run.started_ms))
        return cls(runs, {run.tags.get(records.FINGERPRINT, ""): run for run in order})

    def walk(self, run_ids: Iterable[str]) -> Iterator[StageRun]:
        """Yield these runs, and all that they stand on, each once."""
        waiting, seen = list(dict.fromkeys(run_ids)), set[str]()
        while waiting:
            run_id = waiting.pop(0)
            if run_id not in seen:
                seen.add(run_id)
                yield self.runs[run_id]
                waiting += [needed.run_id for needed in self.needs(self.runs[run_id]).values()]

    def needs(self, run: StageRun) -> dict[str, StageRun]:
        """Return the runs that a run started from, by the name of the stage; those that are gone are left out."""
        return {name: self.origins[own] for name, own in inputs(run).items() if own in self.origins}


def inputs(run: StageRun) -> dict[str, str]:
    """Return the fingerprints of what a run started from, by the name of the stage."""
    return dict(json.loads(run.tags[records.INPUTS]))
