"""Which runs are asked for, as a value, and how MLflow's own search answers it, page by page.

MLflow's filters have neither OR nor an IN for tags, so that some questions take several searches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from orchestration import connection, records
from orchestration.records import RawRun
from orchestration.storage import safe_name

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PAGE = 1000  # runs a search request; MLflow allows 50,000, which would be one answer of some 100 MB
IDS_A_SEARCH = 100  # in one `run_id IN (...)`: a server's processes share the work, and the filter stays under 4 kB
AT_ONCE = 8  # searches, each of which mostly waits for a server


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """The runs that meet every condition which is set, the last begun first. All words are checked: see `safe`."""

    tags: Mapping[str, str] = field(default_factory=dict)  # each as it says
    fingerprints: tuple[str, ...] | None = None  # any of them
    run_ids: tuple[str, ...] | None = None  # any of them
    datasets: tuple[str, ...] | None = None  # any of them, as the `dataset` of a stage's params
    begins: str = ""  # of the run id
    status: str = ""
    newest: int | None = None  # no more than so many
    by_attempt: bool = False  # the last continued first; every run that is found must have been attempted
    metrics: bool = False  # whether numbers are read too: half of the time

    def safe(self) -> Query:
        """Return the query itself. Raises: StoreError when a word could end its quotes in a filter."""
        several = [word for words in (self.fingerprints, self.run_ids, self.datasets) for word in words or ()]
        for word in filter(None, (*self.tags.values(), *several, self.begins, self.status)):
            safe_name(word)
        return self

    def takes(self, tags: Mapping[str, str]) -> bool:
        """Return whether a run with these tags has the query's, and a data set of it: a search may find some more."""
        if not self.tags.items() <= tags.items():
            return False
        return self.datasets is None or _dataset(tags) in self.datasets


def search(client: MlflowClient, experiment: str, query: Query) -> list[RawRun]:
    """Return what MLflow finds, in pages of bounded size. Raises: StoreError."""
    parts = list(_parts(query.safe()))
    if len(parts) < 2:
        return [raw for part in parts for raw in _pages(client, experiment, part)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [raw for raws in pool.map(lambda part: list(_pages(client, experiment, part)), parts) for raw in raws]
    by = _attempt if query.by_attempt else _begun
    return sorted(found, key=by, reverse=True)[: query.newest]


def condition(query: Query) -> str:
    """Return the filter of a query that one search can answer.

    >>> condition(Query(tags={"leoclr.role": "stage"}, run_ids=("ab", "cd")))
    "tags.`leoclr.role` = 'stage' and attributes.run_id IN ('ab', 'cd')"
    """
    said = [f"tags.`{key}` = '{value}'" for key, value in query.tags.items()]
    if query.fingerprints:  # few runs have one, and each tag more makes MLflow look through the tags of all runs again
        said = [f"tags.`{records.FINGERPRINT}` = '{own}'" for own in query.fingerprints]
    said += [f'tags.`{records.PARAMS}` LIKE \'%"dataset": "{own}"%\'' for own in query.datasets or ()]
    if query.run_ids is not None:
        said.append(f"attributes.run_id IN ({', '.join(repr(each) for each in query.run_ids)})")
    if query.begins:
        said.append(f"attributes.run_id LIKE '{query.begins}%'")
    if query.status:
        said.append(f"attributes.status = '{query.status}'")
    return " and ".join(said)


def _parts(query: Query) -> Iterator[Query]:
    """Yield the searches that a query takes."""
    if query.fingerprints is not None:
        for own in query.fingerprints:
            yield replace(query, fingerprints=(own,))
    elif query.run_ids is not None:
        for start in range(0, len(query.run_ids), IDS_A_SEARCH):
            yield replace(query, run_ids=query.run_ids[start : start + IDS_A_SEARCH])
    elif query.datasets is not None:
        for dataset in query.datasets:
            yield replace(query, datasets=(dataset,))
    else:
        yield query


def _pages(client: MlflowClient, experiment: str, query: Query) -> Iterator[RawRun]:
    found = pages(client, experiment, condition(query), query=query)
    return islice((raw for raw in found if query.takes(raw.tags)), query.newest)


def pages(client: MlflowClient, experiment: str, said: str, *, query: Query | None = None) -> Iterator[RawRun]:
    """Yield the runs that meet an MLflow filter, in the order of `query`; the last begun first without one."""
    asked = query or Query()
    order = f"tags.`{records.ATTEMPT_MS}` DESC" if asked.by_attempt else "start_time DESC"
    size = min(PAGE, asked.newest or PAGE)
    token: str | None = None
    while True:
        with connection.speaking(client.tracking_uri):
            page = client.search_runs([experiment], said, max_results=size, order_by=[order], page_token=token)
        yield from map(raw, page)
        if not (token := page.token):
            return


def raw(run: Run) -> RawRun:
    """Return a run without MLflow's types."""
    info, data = run.info, run.data
    return RawRun(
        run_id=info.run_id,
        status=info.status,
        started_ms=info.start_time,
        ended_ms=info.end_time,
        artifact_uri=info.artifact_uri,
        metrics=data.metrics,
        tags=data.tags,
    )


def _dataset(tags: Mapping[str, str]) -> object:
    """Return the data set that a stage's params name, None where they name none."""
    try:
        params = json.loads(tags.get(records.PARAMS, "{}"))
    except ValueError:  # somebody else's run
        return None
    return params.get("dataset") if isinstance(params, dict) else None


def _begun(raw: RawRun) -> int:
    return raw.started_ms


def _attempt(raw: RawRun) -> int:
    return int(raw.tags[records.ATTEMPT_MS])
