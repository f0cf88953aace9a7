"""The sections of a chapter that show images: what each method saw, and what its features hold to be alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from orchestration.fingerprint import digest_of
from orchestration.records import StageRun
from orchestration.report.collect import Chapter
from orchestration.report.explain import PRETRAIN
from orchestration.report.html import Html, fold, heading, image, join, tag
from orchestration.report.neighbors import K, Near, near
from orchestration.report.sections import run_id
from orchestration.report.shelf import Absent, Shelf
from orchestration.report.views import Seen, seen
from orchestration.tracking import Store

MOST = 16  # pre-trainings that are shown: each takes a second or more

T = TypeVar("T")


def views(chapter: Chapter, shelf: Shelf, level: int) -> Html:
    """Return the views of each pre-training; those that make the same ones stand together."""
    groups: dict[str, list[tuple[str, StageRun]]] = {}
    for title, run in _pretrainings(chapter):
        params = {key: run.params.get(key) for key in ("method", "settings", "image_size", "dataset", "seed")}
        groups.setdefault(digest_of(params), []).append((title, run))
    shown, reasons = list[Html](), list[str]()
    for each in groups.values():
        title, run = ", ".join(title for title, _ in each), each[0][1]
        found = _try(partial(_seen, run, shelf), title, reasons)
        if found is None:
            continue
        said = fold(
            f"how the {len(found.views)} views are made", tag("ol", join(tag("li", view) for view in found.views))
        )
        picture = image(found.sheet.source, found.alt, width=found.sheet.width, height=found.sheet.height)
        caption = tag("figcaption", join(["Left: the image. To its right: its views.", said]))
        shown.append(tag("figure", join([heading(level, title), picture, caption]), class_="card"))
    about = "Training images, and the views that training made of them in its first epoch, as the network saw them."
    return _together(about, shown, reasons, "pictures narrow")


def neighbors(chapter: Chapter, shelf: Shelf, store: Store, level: int) -> Html:
    """Return the nearest neighbors of the same test images, by the features of each pre-training."""
    shown, reasons, banks = list[Html](), list[str](), set[int]()
    for title, run in _pretrainings(chapter):
        found = _try(partial(_near, run, shelf, store), title, reasons)
        if found is None:
            continue
        banks.add(found.bank)
        agree, of = found.agree
        picture = image(found.sheet.source, found.alt, width=found.sheet.width, height=found.sheet.height)
        words = f"{agree} of {of} neighbors are of their query's class." if of else "Classes are not known."
        own = tag("a", f"run {run.run_id[:8]}", href=f"#{run_id(run.run_id)}")
        caption = tag("figcaption", join([words, own], " "))
        shown.append(tag("figure", join([heading(level, title), picture, caption]), class_="card"))
    said = (
        f"Left: test images. To their right: their {K} nearest among {', '.join(map(str, sorted(banks)))} training "
        "images, by the cosine of the features of the frozen network, nearest first, for one seed each. A whole bar "
        "below an image: of the query's class; a dashed one: of another."
    )
    return _together(said, shown, reasons)


def _pretrainings(chapter: Chapter) -> Iterator[tuple[str, StageRun]]:
    """Yield the first pre-training of each group, with its title."""
    firsts: dict[str, tuple[str, StageRun]] = {}
    for group in chapter.groups:
        runs = sorted(
            (run for run in group.every() if run.kind == PRETRAIN), key=lambda run: str(run.params.get("seed"))
        )
        if runs:
            title, _ = firsts.get(runs[0].run_id, ("", runs[0]))
            firsts[runs[0].run_id] = (f"{title}, {group.title}" if title else group.title, runs[0])
    yield from list(firsts.values())[:MOST]


def _seen(run: StageRun, shelf: Shelf) -> Seen:
    return seen(run, shelf.of(run))


def _near(run: StageRun, shelf: Shelf, store: Store) -> Near:
    return near(run, store, shelf.of(run))


def _try(make: Callable[[], T], title: str, reasons: list[str]) -> T | None:
    """Return what can be shown; else note why it cannot."""
    try:
        return make()
    except Absent as absent:
        reasons.append(f"{title}: {absent}.")
        return None


def _together(said: str, shown: list[Html], reasons: list[str], class_: str = "pictures") -> Html:
    notes = [tag("p", reason, class_="note") for reason in dict.fromkeys(reasons)]
    if not shown:
        return join(notes)
    return join([tag("p", said, class_="note"), tag("div", join(shown), class_=class_), *notes])
