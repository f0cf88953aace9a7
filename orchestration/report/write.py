"""Put a report together and write it: one HTML file, kept beside the run that it is on."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from leoclr import RESULTS_VERSION
from orchestration.errors import FileProblem, StoreError
from orchestration.records import GIT_COMMIT, StageRun
from orchestration.report import curves, page, pictures, runs, sections, sweeps
from orchestration.report.collect import Chapter, chapters
from orchestration.report.explain import Explainer, seconds
from orchestration.report.html import Html, anchor, heading, join, tag
from orchestration.report.page import Page
from orchestration.report.shelf import Shelf
from orchestration.storage import Home, write_atomic
from orchestration.tracking import Store

ARTIFACT = "report.html"  # of the parent run


@dataclass(frozen=True, slots=True)
class Written:
    """A report that was written."""

    path: Path
    notes: tuple[str, ...]  # what could not be done


def report(
    store: Store,
    home: Home,
    name: str | None = None,
    *,
    everything: bool = False,
    to: Path | None = None,
    roots: Mapping[str, Path] | None = None,
) -> Written:
    """Write the report on a submission or a sweep, or with `everything` on the latest of each; return where it is.

    `roots` are the folders of data sets, beside those of the home. What is on one run is kept as an artifact of it.
    Raises: NotFound when nothing is called `name`; FileProblem when the file cannot be written.
    """
    found = chapters(store, home, name, everything=everything)
    path = to or Path(f"{'all' if everything else anchor('', found[0].name).strip('-')}-report.html")
    text = html(found, store, Shelf(home, roots or {}))
    try:
        write_atomic(path, text)
        path.chmod(0o644)
    except OSError as error:
        raise FileProblem(f"it cannot be written: {error.strerror}", place=str(path)) from error
    return Written(path, tuple(note for each in found if not everything for note in _keep(store, each.run_id, path)))


def html(found: Sequence[Chapter], store: Store, shelf: Shelf) -> str:
    """Return the report on these chapters."""
    one = len(found) == 1
    parts = [part for i, each in enumerate(found, 1) for part in _parts(each, store, shelf, f"c{i}", alone=one)]
    every = {run.run_id: run for each in found for run in each.every().values()}
    told = runs.articles(every.values(), Explainer(store, every), 3)
    parts.append(("runs", "Runs", sections.section(2, "Runs", "runs", _ABOUT_RUNS, told)))
    shown = [part for part in parts if part[2]]
    now = datetime.now(UTC)
    return page.render(
        Page(
            title=found[0].title if one else "Everything that was tracked",
            kind=f"leoclr-ops report: {found[0].name}" if one else f"leoclr-ops report: {len(found)} chapters",
            lead=_lead(found[0]) if one else "The latest submission of each pipeline, and each sweep.",
            tiles=_tiles(list(every.values())),
            contents=[(id_, title) for id_, title, _ in shown if title],
            body=join(part for _, _, part in shown),
            foot=f"Written by leoclr-ops on {now:%Y-%m-%d %H:%M} UTC from tracked runs alone; no number was typed.",
        )
    )


_ABOUT_RUNS = tag(
    "p",
    "Each run that is behind a number of this page: what it ended with, what it stands on, from the data to the code, "
    "and the command that makes it again.",
    class_="note",
)


def _parts(
    chapter: Chapter, store: Store, shelf: Shelf, prefix: str, *, alone: bool
) -> Iterator[tuple[str, str, Html]]:
    """Yield id, title and content of each part of a chapter; where there are several, only their names have a title."""
    level = 2 if alone else 3
    if not alone:
        top = [heading(2, chapter.title, prefix), tag("p", _lead(chapter), class_="lead")]
        yield prefix, chapter.name, join(top)
    for note in chapter.notes:
        yield "", "", tag("p", note, class_="note")
    for name, title, content in _contents(chapter, store, shelf, prefix, level):
        own = f"{prefix}-{name}"
        yield own, title if alone else "", sections.section(level, title, own, content)


def _contents(chapter: Chapter, store: Store, shelf: Shelf, prefix: str, level: int) -> Iterator[tuple[str, str, Html]]:
    if chapter.sweep is not None:
        yield "result", "Result", sweeps.blocks(chapter.sweep, level, prefix)
        yield "figures", "Figures", sweeps.figures(chapter.sweep, prefix)
        yield "trials", "Trials", sweeps.trials(chapter, prefix)
    else:
        yield "result", "Result", sections.result(chapter, prefix)
        yield "seeds", "Seeds", sections.singles(chapter, prefix)
    yield "curves", "Learning curves", sections.curves(chapter, list(curves.panels(chapter, store)), prefix, level + 1)
    yield "cost", "Cost", sections.costs(chapter)
    yield "views", "What each method saw", pictures.views(chapter, shelf, level + 1)
    yield "neighbors", "Nearest neighbors", pictures.neighbors(chapter, shelf, store, level + 1)


def _lead(chapter: Chapter) -> str:
    began = datetime.fromtimestamp(chapter.began_ms / 1000, UTC)
    kind = "Sweep" if chapter.sweep else "Submission"
    return f"{kind} {chapter.run_id[:8]} of {began:%Y-%m-%d %H:%M} UTC on {chapter.host}: {chapter.status}."


def _tiles(every: Sequence[StageRun]) -> list[tuple[str, str]]:
    commits = sorted({run.tags.get(GIT_COMMIT, "unknown") for run in every})
    seeds = {str(run.params.get("seed")) for run in every}
    return [
        ("runs", f"{sum(run.status == 'FINISHED' for run in every)} of {len(every)}"),
        ("seeds", str(len(seeds))),
        ("hours", f"{sum(map(seconds, every)) / 3600:.2g}"),
        ("results version", str(RESULTS_VERSION)),
        ("code", ", ".join(_short(commit) for commit in commits[:2]) or "unknown"),
    ]


def _short(commit: str) -> str:
    return commit if commit == "unknown" else commit[:8] + ("*" if commit.endswith("-dirty") else "")


def _keep(store: Store, run_id: str, path: Path) -> Iterator[str]:
    """Keep the report as an artifact of its run; say so where the store does not take it."""
    if not run_id:
        yield "its run is not known, so that no copy is kept with it"
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            store.log_files(run_id, [Path(shutil.copy(path, Path(folder, ARTIFACT)))])
    except StoreError as error:
        yield f"no copy is kept with its run: {error}"
