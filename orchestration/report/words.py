"""What runs are made of, for the terminal and for machines; what they share is said once. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap

from orchestration.document import printable
from orchestration.report.explain import Explained, shared

WIDTH = 100  # characters
SHORT = 8  # characters of a run id that tell runs apart


def in_words(runs: Sequence[Explained], title: str = "") -> str:
    """Return runs for a person; `title` says what they are together."""
    same = shared(runs)
    blocks = [printable(title)] if title else []
    if len(runs) > 1:
        blocks.append("\n".join(_facts(same, "")))
    for each in runs:
        own = {name: value for name, value in each.facts.items() if len(runs) == 1 or name not in same}
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in each.numbers.items())
        head = f"run {each.run.run_id[:SHORT]}  {each.title}  {each.run.status.lower()}" + (
            f"  {numbers}" if numbers else ""
        )
        page = {"page": each.page} if each.page else {}
        lines = [printable(head), *_facts({**own, **page}, "  "), *_commands(each.recipe.lines)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def to_json(runs: Sequence[Explained], title: str = "") -> dict[str, object]:
    """Return the same as JSON takes it; a number that is not finite becomes null."""
    return {"title": title, "shared": shared(runs), "runs": [_json(each) for each in runs]}


def _json(each: Explained) -> dict[str, object]:
    return {
        "run_id": each.run.run_id,
        "title": each.title,
        "status": each.run.status,
        "params": dict(each.run.params),
        "numbers": {name: value if math.isfinite(value) else None for name, value in each.numbers.items()},
        "facts": dict(each.facts),
        "reproduce": list(each.recipe.lines),
        "pipeline": each.recipe.file,
        "defects": list(each.defects),
        "page": each.page,
    }


def _facts(facts: Mapping[str, str], indent: str) -> list[str]:
    """Return a line a fact, its name before it, broken at words."""
    left = max(map(len, facts), default=0) + 2
    lines = []
    for name, value in facts.items():
        first, *others = wrap(printable(value), WIDTH - left, break_long_words=False, break_on_hyphens=False) or [""]
        lines.append(f"{indent}{name:{left}}{first}")
        lines += [f"{indent}{'':{left}}{line}" for line in others]
    return lines


def _commands(lines: Sequence[str]) -> list[str]:
    """Return the commands, each whole in a line of its own: they are to be copied."""
    return ["  to make it again:", *(f"    {printable(line)}" for line in lines)]
