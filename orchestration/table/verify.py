"""Is every number of a table what it says it is? From the digest of the data to the metric, link by link."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from jobs.contract import NO_DATA
from leoclr import RESULTS_VERSION
from orchestration import records
from orchestration.errors import StoreError
from orchestration.fingerprint import fingerprint
from orchestration.records import StageRun
from orchestration.table.cell import SHORT
from orchestration.table.chain import Chain, inputs
from orchestration.table.collect import Table
from orchestration.tracking import Store

METRICS = "metrics.json"  # of a result: the numbers that the stage itself wrote


def defects(table: Table, store: Store) -> Iterator[str]:
    """Yield a line for each defect of a table: a cell without all of its runs, a run that is not what it says it is.

    A run is sound when it is finished, of this results version, when its fingerprint is that of its own kind, params,
    data digest and inputs, when every file of its result has the sha256 of its manifest and the numbers in it are those
    of the store, and when all that it stands on is sound.
    """
    for i, cells in enumerate(table.cells):
        for cell, column in zip(cells, table.columns, strict=True):
            if cell.missing and not table.row(i).why:
                yield f"{table.rows[i]}, {column.title}: {cell.missing}"
    run_ids = [run_id for row in table.cells for cell in row for run_id in cell.run_ids]
    chain = Chain()
    chain.read(store, run_ids)
    for run in chain.walk(run_ids):
        yield from (
            f"run {run.run_id[:SHORT]} ({f'{run.stage} {run.arm}'.strip()}): {fact}"
            for fact in facts(run, chain, store)
        )


def facts(run: StageRun, chain: Chain, store: Store) -> Iterator[str]:
    """Yield what is wrong with one run; every file of its result is hashed."""
    if run.status != "FINISHED":
        yield f"it is not finished ({run.status.lower()})"
    version = run.tags[records.RESULTS_VERSION]
    if version != str(RESULTS_VERSION):
        yield f"results version {version}, now {RESULTS_VERSION}"
    needed, digest = inputs(run), run.tags[records.DIGEST]
    if not digest and run.params.get("dataset", NO_DATA) != NO_DATA:
        yield "no digest of its data"
    own = fingerprint(run.kind, run.params, results_version=int(version), digest=digest, inputs=needed.values())
    if own != run.tags[records.FINGERPRINT]:
        yield f"its fingerprint {run.tags[records.FINGERPRINT]} is not that of what it records, {own}"
    for name, fingerprint_of in needed.items():
        if fingerprint_of not in chain.origins:
            yield f"what it needs is not there: {name} {fingerprint_of}"
    yield from _files(run, store)


def _files(run: StageRun, store: Store) -> Iterator[str]:
    try:
        files = store.check(run.run_id)
    except StoreError as error:
        yield error.fact
        return
    if METRICS not in files:
        yield f"its result has no {METRICS}"
        return
    for name, value in json.loads(files[METRICS].read_text(encoding="utf-8")).items():
        known = run.metrics.get(name)
        if known is None or not (known == value or (math.isnan(known) and math.isnan(value))):
            yield f"{name} is {known} in the store and {value} in its result"
