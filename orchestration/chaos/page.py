"""What came of the faults, as text and as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from orchestration.chaos.drive import Outcome
from orchestration.chaos.faults import FAULTS
from orchestration.chaos.soak import Soaked
from orchestration.errors import LeoclrOpsError

BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"
MATRIX, SOAK = "matrix", "soak"
HEAD = "| row | fault | what happens | promised | what came of it | steps repeated | values lost | s | tried |"
KEPT = "kept"

Tally: TypeAlias = tuple[bool, int | None, int | None]
"""Whether all was kept, the steps repeated, the values lost; None where it was not measured."""


def line(outcome: Outcome) -> str:
    """Return one line on an outcome."""
    mark = "kept  " if outcome.kept else "BROKEN"
    return f"{mark} {outcome.fault.name:11} {outcome.seconds:5.0f} s  {outcome.evidence.text}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the numbers of all outcomes in a sentence.

    >>> summary([])
    '0 faults tried, 0 survived, 0 steps repeated, 0 values lost in 0 comparisons with a calm run'
    """
    return _sentence([(each.kept, each.evidence.repeated, each.evidence.lost) for each in outcomes])


def matrix(outcomes: Sequence[Outcome], *, seed: int, where: str, earlier: Mapping[str, str] = {}) -> str:
    """Return the outcomes as Markdown; `where` says when and on what machine, and `earlier` are rows of other faults.

    Each row says how it was tried; the numbers above are those of all rows.
    """
    found = {**earlier, **{each.fault.name: _row(each, f"seed {seed}, {where}") for each in outcomes}}
    order = {fault.name: number for number, fault in enumerate(FAULTS)}
    lines = [found[name] for name in sorted(found, key=lambda name: order.get(name, len(order)))]
    rule = "|" + "---|" * 5 + "---:|" * 3 + "---|"
    return "\n".join([f"{_sentence([_tally(line) for line in lines])}.", "", HEAD, rule, *lines])


def rows(text: str) -> dict[str, str]:
    """Return the rows of the matrix that a page has, by fault.

    Raises: LeoclrOpsError where they are of another form.
    """
    part = text.partition(BEGIN.format(MATRIX))[2].partition(END.format(MATRIX))[0]
    table = [each for each in part.splitlines() if each.startswith("|")]
    if table and (table[0] != HEAD or any(len(_cells(each)) != len(_cells(HEAD)) for each in table)):
        hint = "without --only all of it is written anew"
        raise LeoclrOpsError("the matrix of that page has other columns", place="--write", hint=hint)
    return {_cells(each)[1].strip("`"): each for each in table[2:]}


def soak(soaked: Soaked, *, where: str) -> str:
    """Return what came of a soak as Markdown."""
    kinds = "\n".join(f"| {name} | {count} |" for name, count in sorted(soaked.kills.items()))
    total = sum(soaked.kills.values())
    facts = (
        f"{total} kills in {soaked.seconds / 60:.0f} minutes, {soaked.starts} starts of the driver, "
        f"{soaked.repeated} steps repeated at most, {soaked.lost} values lost: "
        f"the table, weights, states and histories are those of the calm run"
    )
    command = f"`leoclr-ops chaos --soak --kills {total} --seed {soaked.seed}`, {where}"
    return f"{facts} ({command}).\n\n| killed | times |\n|---|---:|\n{kinds}"


def put(text: str, part: str, content: str) -> str:
    """Return a page with one part of it written anew; one that has no such part gets it at its end.

    >>> page = put("# Chaos", "soak", "50 kills")
    >>> put(page, "soak", "60 kills").splitlines()
    ['# Chaos', '', '<!-- begin soak -->', '60 kills', '<!-- end soak -->']
    """
    begin, end = BEGIN.format(part), END.format(part)
    if begin not in text or end not in text:
        return f"{text.rstrip()}\n\n{begin}\n{content}\n{end}\n"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def _row(outcome: Outcome, tried: str) -> str:
    fault, evidence = outcome.fault, outcome.evidence
    came = f"{KEPT if outcome.kept else '**broken**'}: {' '.join(evidence.text.split())}"
    numbers = (_or_dash(evidence.repeated), _or_dash(evidence.lost), f"{outcome.seconds:.0f}")
    cells = (fault.rows, f"`{fault.name}`", fault.title, fault.promise, came, *numbers, tried)
    return f"| {' | '.join(each.replace('|', '/') for each in cells)} |"


def _cells(line: str) -> list[str]:
    return [each.strip() for each in line.strip("|").split("|")]


def _tally(line: str) -> Tally:
    """Return of a row whether all was kept, and its two numbers."""
    *_, came, repeated, lost, _, _ = _cells(line)
    return came.startswith(KEPT), _number(repeated), _number(lost)


def _sentence(tallies: Sequence[Tally]) -> str:
    kept = sum(each[0] for each in tallies)
    repeated, lost = (sum(each[at] or 0 for each in tallies) for at in (1, 2))
    compared = sum(each[2] is not None for each in tallies)
    numbers = f"{repeated} steps repeated, {lost} values lost in {compared} comparisons with a calm run"
    return f"{len(tallies)} faults tried, {kept} survived, {numbers}"


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
