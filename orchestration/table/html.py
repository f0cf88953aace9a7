"""A laid out table as one HTML file that needs nothing else: no script, no font, no server. Pure."""

from __future__ import annotations

from html import escape

from orchestration.table.grid import PLUS_MINUS, Entry, Grid

STYLE = """\
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
thead, tbody { border-bottom: 2px solid; }
thead { border-top: 2px solid; }
th, td { padding: .25rem .75rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
tbody th { font-weight: 400; }
footer { font-size: .875rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 .5rem; }
dd { margin: 0; }"""


def render(grid: Grid) -> str:
    """Return a whole page."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(grid.title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            "<main>",
            fragment(grid),
            "</main>",
            "</html>",
        ]
    )


def fragment(grid: Grid) -> str:
    """Return the table with its notes and runs, to stand in a page that has its own style."""
    bodies = [[line for line in grid.lines if line.is_difference == which] for which in (False, True)]
    lines = [f'<div class="table" role="region" tabindex="0" aria-label="{escape(grid.title)}">', "<table>"]
    lines += [f"<caption>{escape(grid.title)}</caption>", "<thead>", "<tr>"]
    lines += [f'<th scope="col">{escape(head)}</th>' if head else "<td></td>" for head in grid.heads]
    lines += ["</tr>", "</thead>"]
    for body in filter(None, bodies):
        lines.append("<tbody>")
        for line in body:
            fields = "".join(f"<td>{_entry(entry)}</td>" for entry in line.entries)
            lines.append(f'<tr><th scope="row">{_entry(line.title)}</th>{fields}</tr>')
        lines.append("</tbody>")
    lines += ["</table>", "</div>", "<footer>"]
    if grid.notes:
        lines += ["<dl>", *(f"<dt>{mark}</dt><dd>{_html(words)}</dd>" for mark, words in grid.notes), "</dl>"]
    lines.append(f"<p>{_html(grid.legend())}</p>")
    if grid.runs:
        lines += ["<details>", "<summary>runs</summary>", "<ul>"]
        lines += [*(f"<li>{escape(run)}</li>" for run in grid.runs), "</ul>", "</details>"]
    return "\n".join([*lines, "</footer>"])


def _entry(entry: Entry) -> str:
    text = _html(entry.text)
    if entry.href:
        text = f'<a href="{escape(entry.href)}">{text}</a>'
    if entry.best:
        text = f"<strong>{text}</strong>"
    return text + (f"<sup>{' '.join(entry.marks)}</sup>" if entry.marks else "")


def _html(text: str) -> str:
    return escape(text).replace(PLUS_MINUS, "&plusmn;")
