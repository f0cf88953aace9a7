"""What runs stand on, link by link: an evaluation on its pre-training, by fingerprints."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import jobs
from orchestration import records
from orchestration.records import StageRun


class Runs(Protocol):
    """What a chain asks of the tracking store."""

    def stages(self, kind: str) -> list[StageRun]: ...

    def stage_runs(self, run_ids: Iterable[str]) -> dict[str, StageRun]: ...

    def stages_of(self, fingerprints: Collection[str]) -> list[StageRun]: ...


@dataclass(frozen=True, slots=True)
class Chain:
    """Runs of a store as far as they were read, with all that they stand on.

    By id, and by fingerprint the one that others stand on: finished, and the newest.
    """

    runs: dict[str, StageRun] = field(default_factory=dict)
    origins: dict[str, StageRun] = field(default_factory=dict)

    @classmethod
    def of_all(cls, store: Runs) -> Chain:
        """Read every stage run."""
        chain = cls()
        chain._add(run for kind in jobs.STAGES for run in store.stages(kind))
        return chain

    def read(self, store: Runs, run_ids: Iterable[str]) -> None:
        """Read these runs, those that are not of a stage left out, and level by level what they stand on."""
        found = store.stage_runs([run_id for run_id in run_ids if run_id not in self.runs])
        self.runs.update(found)
        looked_for: set[str] = set()
        while wanted := {own for run in found.values() for own in inputs(run).values()} - {*self.origins, *looked_for}:
            looked_for |= wanted  # what is gone is not asked for again
            found = {run.run_id: run for run in store.stages_of(sorted(wanted))}
            self._add(found.values())

    def _add(self, runs: Iterable[StageRun]) -> None:
        """Add all runs of some fingerprints."""
        for run in sorted(runs, key=lambda run: (run.status == "FINISHED", run.started_ms)):
            self.runs[run.run_id] = self.origins[run.tags.get(records.FINGERPRINT, "")] = run

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
