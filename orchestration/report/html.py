"""Pieces of a page. Text is escaped on its way in: only what is marked as `Html` is taken as it is. Pure."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestration.table.grid import PLUS_MINUS


class Html(str):
    """Text that is markup, made here."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """A field of a table."""

    text: str  # or Html
    best: bool = False


def show(text: str) -> Html:
    """Return text as markup; what is markup already stays as it is.

    >>> show("a < b"), show(Html("<b>b</b>"))
    ('a &lt; b', '<b>b</b>')
    """
    if isinstance(text, Html):
        return text
    return Html(html.escape(text).replace(PLUS_MINUS, "&plusmn;"))


def join(parts: Iterable[str], between: str = "\n") -> Html:
    """Return pieces one after the other."""
    return Html(between.join(map(show, filter(None, parts))))


def tag(name: str, content: str = "", **attributes: str) -> Html:
    """Return an element; `class_` is the attribute `class`, `aria_label` is `aria-label`; empty ones are left out."""
    said = "".join(
        f' {key.strip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items() if value
    )
    return Html(f"<{name}{said}>{show(content)}</{name}>")


def image(source: str, alt: str, *, width: int, height: int, class_: str = "") -> Html:
    """Return an image; `source` is a data URI."""
    return Html(
        f'<img src="{html.escape(source)}" alt="{html.escape(alt)}" width="{width}" height="{height}"'
        f' class="{html.escape(class_)}" loading="lazy" decoding="async">'
    )


def anchor(kind: str, name: str) -> str:
    """Return the id of an element; whatever the name, it is one.

    >>> anchor("run", "8F31 <x>")
    'run-8f31-x'
    """
    return f"{kind}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"


def link(target: str, text: str) -> Html:
    """Return a link to an element of this page."""
    return tag("a", text, href=f"#{target}")


def heading(level: int, text: str, id_: str = "") -> Html:
    """Return a heading."""
    return tag(f"h{min(level, 6)}", text, **({"id": id_} if id_ else {}))


def region(label: str, content: str) -> Html:
    """Return content that scrolls sideways where it is wide; the keyboard reaches it, and it has a name."""
    return tag("div", content, class_="scroll", role="region", tabindex="0", aria_label=label)


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[str | Cell]], *, words: int = 1, quiet: bool = False
) -> Html:
    """Return a table that scrolls; the first `words` columns are to the left, and the first names its row.

    `quiet`: the caption is not for the eye, which has read it above.
    """
    head = [tag("th", each, scope="col", class_="word" if j < words else "") for j, each in enumerate(heads)]
    body = [tag("tr", join([_field(cell, j, words=words) for j, cell in enumerate(row)], "")) for row in rows]
    title = tag("caption", caption, class_="hidden" if quiet else "")
    inner = join([title, tag("thead", tag("tr", join(head, ""))), tag("tbody", join(body))])
    return region(re.sub(r"<[^>]+>", "", html.unescape(caption)), tag("table", inner))


def _field(cell: str | Cell, j: int, *, words: int) -> Html:
    text = cell if isinstance(cell, str) else tag("strong", cell.text) if cell.best else cell.text
    if j == 0:
        return tag("th", text, scope="row", class_="word")
    return tag("td", text, class_="word" if j < words else "")


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return names and what they mean, side by side."""
    return tag("dl", join(tag("div", join([tag("dt", name), tag("dd", value)], "")) for name, value in pairs))


def fold(title: str, content: str) -> Html:
    """Return content that opens when its title is chosen."""
    return tag("details", join([tag("summary", title), content]))
