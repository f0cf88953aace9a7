"""Which stage waits for which."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import jobs
from orchestration.document import Place, Tree, printable, show
from orchestration.errors import SpecError, did_you_mean


def needs(raw: Mapping[str, Tree], kinds: Mapping[str, str], place: Place) -> dict[str, tuple[str, ...]]:
    """Return the stages that each stage comes after, from the `needs` as written, both by stage name.

    Raises: SpecError for unknown stages, for an input that a kind needs and does not get, and for cycles.
    """
    named = {stage: _named(stage, value, kinds, place.at(stage, "needs")) for stage, value in raw.items()}
    _refuse_cycles(named, place)
    for stage, needed in named.items():
        for kind in jobs.module(kinds[stage]).NEEDS:
            found = [name for name in needed if kinds[name] == kind]
            _refuse_other_than_one(found, kind, stage=stage, kinds=kinds, place=place.at(stage, "needs"))
    return named


def _named(stage: str, value: Tree, kinds: Mapping[str, str], place: Place) -> tuple[str, ...]:
    if value is not None and not isinstance(value, list):
        raise SpecError(
            f"expected a list of stages, got {show(value)}", place=str(place), hint=f"[{printable(str(value))}]"
        )
    names: list[str] = []
    for need in value or ():
        if not isinstance(need, str) or need not in kinds:
            hint = did_you_mean(str(need), kinds)
            raise SpecError(f"no stage is called {show(need)}", place=str(place), hint=hint)
        if need in names:
            raise SpecError(f"{show(need)} is listed twice", place=str(place))
        names.append(need)
    return tuple(names)


def _refuse_other_than_one(found: list[str], kind: str, *, stage: str, kinds: Mapping[str, str], place: Place) -> None:
    """Refuse none or several inputs of one kind that a stage needs. Raises: SpecError."""
    if len(found) > 1:
        raise SpecError(f"needs one stage of kind {show(kind)}, got {', '.join(map(show, found))}", place=str(place))
    if not found:
        able = [name for name, its in kinds.items() if its == kind and name != stage]
        hint = f"add `needs: [{able[0]}]`" if able else f"add a stage of kind `{kind}`"
        raise SpecError(f"a {show(kinds[stage])} stage needs a stage of kind {show(kind)}", place=str(place), hint=hint)


def _refuse_cycles(needs: Mapping[str, tuple[str, ...]], place: Place) -> None:
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise SpecError(
            f"these stages wait for each other: {circle}", place=str(place), hint="drop one `needs`"
        ) from None
