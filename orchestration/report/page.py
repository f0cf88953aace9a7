"""The whole page: one file, no script, nothing fetched. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.report.html import Html, facts, join, link, show, tag
from orchestration.report.style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says."""

    title: str
    kind: str  # above the title
    lead: str  # below it
    tiles: Sequence[tuple[str, str]]  # what counts, at a glance
    contents: Sequence[tuple[str, str]]  # id and title of each part
    body: Html
    foot: str


def render(page: Page) -> str:
    """Return the page as HTML."""
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="data:,">',
        f"<title>{show(page.title)}</title>",
        f"<style>\n{STYLE}</style>",
    ]
    parts = [
        tag("a", "to the content", class_="skip", href="#content"),
        tag("header", tag("div", _head(page))),
        tag("nav", tag("ul", join(tag("li", link(*each)) for each in page.contents)), aria_label="contents"),
        tag("main", page.body, id="content", tabindex="-1"),
        tag("footer", tag("p", page.foot)),
    ]
    top = "\n".join(['<!doctype html>\n<html lang="en">', "<head>", *head, "</head>", "<body>"])
    return f"{top}\n{join(parts)}\n</body>\n</html>\n"


def _head(page: Page) -> Html:
    tiles = Html(facts(page.tiles).replace("<dl>", '<dl class="tiles">', 1))
    lead = tag("p", page.lead, class_="lead") if page.lead else ""
    return join([tag("p", page.kind, class_="eyebrow"), tag("h1", page.title), lead, tiles])
