"""What the readers of table files ask of a tree, beside what `document` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestration.document import Place, Tree, show, text
from orchestration.errors import SpecError, did_you_mean


def texts(value: Tree, place: Place) -> tuple[str, ...]:
    """Return a list of lines; nothing at all counts as an empty one. Raises: SpecError."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise SpecError(f"expected a list, got {show(value)}", place=str(place))
    return tuple(text(each, place.at(str(i))) for i, each in enumerate(value))


def known(name: str, names: Iterable[str], place: Place, what: str) -> None:
    """Refuse a name that is not one of `names`, things called `what`. Raises: SpecError."""
    listed = list(names)
    if name not in listed:
        raise SpecError(f"no {what} here is called {show(name)}", place=str(place), hint=did_you_mean(name, listed))


def distinct(titles: Iterable[str], place: Place) -> None:
    """Refuse a title that is given twice. Raises: SpecError."""
    seen: set[str] = set()
    for title in titles:
        if title in seen:
            raise SpecError(f"two are called {show(title)}", place=str(place))
        seen.add(title)


def need(tree: Mapping[str, Tree], key: str, place: Place) -> Tree:
    """Return a value that must be there. Raises: SpecError."""
    if key not in tree:
        raise SpecError(f"`{key}` is missing", place=str(place))
    return tree[key]
