"""What came of the faults, as text and as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.chaos.drive import Outcome
from orchestration.chaos.soak import Soaked

BEGIN, END = "<!-- begin {} -->", "<!-- end {} -->"
MATRIX, SOAK = "matrix", "soak"


def line(outcome: Outcome) -> str:
    """Return one line on an outcome."""
    mark = "kept  " if outcome.kept else "BROKEN"
    return f"{mark} {outcome.fault.name:11} {outcome.seconds:5.0f} s  {outcome.evidence.text}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """Return the numbers of all outcomes in a sentence.

    >>> summary([])
    '0 faults tried, 0 survived, 0 steps repeated, 0 values lost'
    """
    kept = sum(outcome.kept for outcome in outcomes)
    repeated = sum(outcome.evidence.repeated or 0 for outcome in outcomes)
    lost = sum(outcome.evidence.lost for outcome in outcomes)
    return f"{len(outcomes)} faults tried, {kept} survived, {repeated} steps repeated, {lost} values lost"


def matrix(outcomes: Sequence[Outcome], *, seed: int, where: str) -> str:
    """Return the outcomes as Markdown; `where` says when and on what machine."""
    rows = [
        f"| {each.fault.rows} | `{each.fault.name}` | {each.fault.title} | {each.fault.promise} | "
        f"{'kept' if each.kept else '**broken**'}: {each.evidence.text} | {_or_dash(each.evidence.repeated)} | "
        f"{each.evidence.lost if each.kept else ''} | {each.seconds:.0f} |"
        for each in outcomes
    ]
    head = ["| row | fault | what happens | promised | what came of it | steps repeated | values lost | s |"]
    head += ["|---|---|---|---|---|---:|---:|---:|"]
    return "\n".join([f"{summary(outcomes)} (`leoclr-ops chaos --seed {seed}`, {where}).", "", *head, *rows])


def soak(soaked: Soaked, *, where: str) -> str:
    """Return what came of a soak as Markdown."""
    kinds = "\n".join(f"| {name} | {count} |" for name, count in sorted(soaked.kills.items()))
    total = sum(soaked.kills.values())
    facts = (
        f"{total} kills in {soaked.seconds / 60:.0f} minutes, {soaked.starts} starts of the driver, "
        f"{soaked.repeated} steps repeated, {soaked.lost} values lost: "
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


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)
