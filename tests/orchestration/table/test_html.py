"""The page of a table is whole, needs nothing else, and takes no markup from titles."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from orchestration.table import html as table_html
from orchestration.table import read as table_read
from orchestration.table import spec as table_spec
from orchestration.table.collect import collect
from orchestration.table.grid import Entry, Grid, Line, lay_out

VOID = {"meta", "link", "br", "img", "!doctype"}


class _Page(HTMLParser):
    """Refuses a tag that is closed in the wrong order; counts the others."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def count(self, tag: str) -> int:
        return sum(seen == tag for seen, _ in self.seen)


@pytest.mark.parametrize("name", sorted(name for name in table_spec.shipped() if not table_read.load(name).pipeline))
def test_every_shipped_table_is_a_sound_page(name: str) -> None:
    grid = lay_out(collect(table_read.load(name), None))
    page = _Page(table_html.render(grid))
    assert page.count("td") == 1 + len(grid.lines) * (len(grid.heads) - 1)  # the corner is no head
    scopes = [attributes["scope"] for tag, attributes in page.seen if tag == "th"]
    assert (scopes.count("col"), scopes.count("row")) == (len(grid.heads) - 1, len(grid.lines))
    assert page.count("caption") == 1
    assert dict(page.seen)["html"] == {"lang": "en"}
    assert not {"script", "link", "img"} & {tag for tag, _ in page.seen}


def test_titles_are_text() -> None:
    evil = '<script>alert("1")</script> & <b'
    line = Line(Entry(evil, marks=("a",)), (Entry(evil, best=True),))
    grid = Grid(evil, ("", evil), (line,), (("a", evil),), (evil,), "", (evil,))
    text = table_html.render(grid)
    page = _Page(text)
    assert page.count("script") + page.count("b") == 0
    assert page.count("strong") == 1
    assert "&lt;script&gt;" in text
