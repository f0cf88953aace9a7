"""A laid out table as LaTeX with booktabs. Pure."""

from __future__ import annotations

from orchestration.table.grid import DASH, PLUS_MINUS, Entry, Grid

_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: "\\" + c for c in "&%$#_{}"},
}


def render(grid: Grid) -> str:
    """Return a `table` environment; notes stand below it, run ids in comments after it."""
    lines = [" & ".join(map(_tex, grid.heads)) + r" \\", r"\midrule"]
    for i, line in enumerate(grid.lines):
        if line.is_difference and not grid.lines[i - 1].is_difference:
            lines.append(r"\midrule")
        lines.append(" & ".join(map(_entry, (line.title, *line.entries))) + r" \\")
    notes = [rf"$^{{{mark}}}$ {_tex(words)}." for mark, words in grid.notes]
    below = (
        [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", *notes, r"\end{minipage}"] if notes else []
    )
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(f'{grid.title}: {grid.legend()}.')}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.heads) - 1)}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
            *(f"% {line}" for line in grid.runs),
        ]
    )


def _entry(entry: Entry) -> str:
    text = "--" if entry.text == DASH else _tex(entry.text)
    return (rf"\textbf{{{text}}}" if entry.best else text) + (f"$^{{{','.join(entry.marks)}}}$" if entry.marks else "")


def _tex(text: str) -> str:
    return "".join(_SIGNS.get(c, c) for c in text).replace(PLUS_MINUS, r"$\pm$")
