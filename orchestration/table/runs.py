"""Among all tracked runs, those that belong into a cell: what its row and column ask for, and one recipe alone.

Runs that differ in anything but their seeds are never averaged. Where a selector leaves two recipes, those of the
table's own pipelines count; if these are two as well, the cell stays empty and says what tells them apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from leoclr import RESULTS_VERSION
from leoclr.data import DATASETS
from orchestration import records
from orchestration.document import Tree, show
from orchestration.fingerprint import differences, digest_of
from orchestration.records import StageRun
from orchestration.table.cell import SHORT, Cell, Table, assemble, cell
from orchestration.table.spec import Column, Row, TableSpec

PRETRAIN = "pretrain"
_MOST = 3  # differences that are named


class Runs(Protocol):
    """What a selection asks of the tracking store."""

    def stages(self, kind: str, datasets: Sequence[str] | None = None) -> list[StageRun]: ...


class NoRuns:
    """A store that does not exist yet."""

    def stages(self, kind: str, datasets: Sequence[str] | None = None) -> list[StageRun]:
        """Return nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Traced:
    """A run with the pre-training that it stands on."""

    run: StageRun
    pretrain: StageRun | None  # itself where it is one; None where the store has it no more

    @property
    def facts(self) -> dict[str, Any]:
        """All params that a selector may ask for."""
        return {"params": self.run.params, PRETRAIN: self.pretrain.params if self.pretrain else {}}

    @property
    def seed(self) -> str:
        """What two rows have in common: the seeds of both runs."""
        return json.dumps([facts.get("seed") for facts in self.facts.values()])

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides its numbers, except seeds."""
        pretrain = self.pretrain
        kept = {name: {k: v for k, v in params.items() if k != "seed"} for name, params in self.facts.items()}
        digests = [self.run.tags.get(records.DIGEST), pretrain.tags.get(records.DIGEST) if pretrain else None]
        return {**kept, "data": digests}


def collect(spec: TableSpec, store: Runs, only: AbstractSet[str] | None = None) -> Table:
    """Return the table of the runs that its rows and columns select, among those with ids `only` if given."""
    found = traced(spec, store)
    runs = {
        kind: [each for each in each_kind if only is None or each.run.run_id in only]
        for kind, each_kind in found.items()
    }
    rows = [[_cell(spec, row, column, runs[column.stage]) for column in spec.columns] for row in spec.rows]
    return assemble(spec, rows)


def traced(spec: TableSpec, store: Runs) -> dict[str, list[Traced]]:
    """Return all runs of the kinds and data sets that a table asks for, by kind, newest first."""
    kinds = dict.fromkeys((PRETRAIN, *(column.stage for column in spec.columns)))
    runs = {kind: store.stages(kind, _datasets(spec, kind)) for kind in kinds}
    merit = sorted(runs[PRETRAIN], key=lambda run: (run.status == "FINISHED", run.started_ms))  # the best comes last
    origins = {run.tags.get(records.FINGERPRINT, ""): run for run in merit}
    return {kind: [Traced(run, _origin(run, origins)) for run in each] for kind, each in runs.items()}


def _datasets(spec: TableSpec, kind: str) -> list[str] | None:
    """Return the data sets that the cells ask for in runs of a kind; None where a cell takes any."""
    columns = [column for column in spec.columns if kind in (column.stage, PRETRAIN)]
    selectors = [spec.selector(row, column) for row in spec.rows if not row.why for column in columns]
    path = "pretrain.dataset" if kind == PRETRAIN else "params.dataset"
    asked = {str(selector.get(path)) for selector in selectors}
    return sorted(asked) if asked <= DATASETS.keys() else None


def _origin(run: StageRun, origins: Mapping[str, StageRun]) -> StageRun | None:
    if run.kind == PRETRAIN:
        return run
    inputs = json.loads(run.tags.get(records.INPUTS, "{}")).values()
    return next((origins[own] for own in inputs if own in origins), None)


def wanted(selector: Mapping[str, Tree], facts: Mapping[str, Any], protocol: str) -> bool:
    """Return whether params, by "params" and "pretrain", and the name of a protocol are what a selector asks for."""
    return all(
        protocol == value if path == "protocol" else at(facts, path) == value for path, value in selector.items()
    )


def at(facts: Mapping[str, Any], path: str) -> Any:
    """Return what is at a dotted path, None where nothing is.

    >>> at({"params": {"settings": {"epochs": 30}}}, "params.settings.epochs"), at({}, "params.settings.epochs")
    (30, None)
    """
    value: Any = facts
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _cell(spec: TableSpec, row: Row, column: Column, runs: Sequence[Traced]) -> Cell:
    published = spec.published.get((row.title, column.title))
    if row.why:
        return Cell(None, None, 0, (), published, row.why)
    selector = spec.selector(row, column)
    belong = [
        each for each in runs if wanted(selector, each.facts, each.run.tags.get(records.PROTOCOL, "").partition(" ")[0])
    ]
    sound = [each for each in belong if not _unusable(each, selector)]
    if not sound:
        reasons = dict.fromkeys(_unusable(each, selector) for each in belong)
        return Cell(None, None, 0, (), published, "; ".join(reasons) or "not run")
    recipes = _recipes(each for each in sound if each.run.status == "FINISHED") or _recipes(sound)
    if len(recipes) > 1:
        own = {Path(name).stem if name.endswith((".yaml", ".yml")) else name for name in spec.pipelines}
        recipes = _recipes(each for each in sound if each.run.tags.get(records.PIPELINE) in own) or recipes
    if len(recipes) > 1:
        return Cell(None, None, 0, (), published, _apart(recipes))
    return cell([(each.seed, each.run) for each in recipes[0]], column, published)


def _unusable(each: Traced, selector: Mapping[str, Tree]) -> str:
    """Return why a run that belongs into a cell may not be in it; "" where it may."""
    run, short = each.run, f"run {each.run.run_id[:SHORT]}"
    version = run.tags.get(records.RESULTS_VERSION)
    if version != str(RESULTS_VERSION):
        return f"results version {version} in {short}, now {RESULTS_VERSION}"
    changed = untold(run.tags.get(records.PROTOCOL, ""), selector)
    return f"protocol changed in {short}: {', '.join(changed)}" if changed else ""


def untold(protocol: str, selector: Mapping[str, Tree]) -> list[str]:
    """Return the settings that differ from those of a protocol, by its title, and that a selector does not name.

    >>> untold("moco 1, changed: epochs, lrs", {"params.settings.epochs": 90})
    ['lrs']
    """
    told = {path.split(".")[2] for path in selector if path.startswith("params.settings.")}
    changed = protocol.partition(", changed: ")[2]
    return [name for name in changed.split(", ") if name not in told] if changed else []


def _recipes(runs: Iterable[Traced]) -> list[list[Traced]]:
    """Return the runs of each recipe, a seed once: the finished one, else the newest."""
    groups: dict[str, dict[str, Traced]] = {}
    for each in runs:
        seeds = groups.setdefault(digest_of(each.recipe), {})
        if each.seed not in seeds or _merit(each) > _merit(seeds[each.seed]):
            seeds[each.seed] = each
    return [[seeds[seed] for seed in sorted(seeds)] for seeds in groups.values()]


def _merit(each: Traced) -> tuple[bool, int]:
    return each.run.status == "FINISHED", each.run.started_ms


def _apart(recipes: Sequence[Sequence[Traced]]) -> str:
    first, second = recipes[0][0], recipes[1][0]
    told = "; ".join(differences(first.recipe, second.recipe)[:_MOST])
    ids = " and ".join(each.run.run_id[:SHORT] for each in (first, second))
    return f"{len(recipes)} recipes match, as {ids}: {told or show(first.recipe)}"
