"""The LaTeX of a table is what a compiler takes, whatever is in its titles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.table import latex as table_latex
from orchestration.table import read as table_read
from orchestration.table.collect import collect
from orchestration.table.grid import Entry, Grid, Line, lay_out

COMPILER = next(filter(shutil.which, ("pdflatex", "tectonic", "xelatex", "lualatex")), None)
TITLES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


def _grid(title: str, marks: tuple[str, ...] = ("a", "1"), *, best: bool = True) -> Grid:
    entries = (Entry("71.7 +- 0.1", best, marks), Entry("-"))
    lines = (Line(Entry(title), entries), Line(Entry(f"{title} - x"), entries, is_difference=True))
    return Grid(title, ("", title, "b"), lines, tuple((mark, title) for mark in marks), (title,), "better", (title,))


@given(title=TITLES)
@settings(max_examples=60, deadline=None)
def test_no_character_of_a_title_is_a_command(title: str) -> None:
    text = table_latex.render(_grid(title))
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[a-z]+|\\.", "", body)
    assert not set("#%_~^\\") & set(re.sub(r"\$\^\{[^}]*\}\$|\$\$", "", bare))
    assert bare.count("{") == bare.count("}")
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {2}


def test_a_rule_parts_the_differences_from_the_rows() -> None:
    lines = table_latex.render(_grid("t")).splitlines()
    assert lines.count(r"\midrule") == 2
    assert lines[lines.index(r"\bottomrule") - 2] == r"\midrule"


def test_marks_are_superscripts_and_the_best_is_bold() -> None:
    text = table_latex.render(_grid("t"))
    assert r"\textbf{71.7 $\pm$ 0.1}$^{a,1}$ & --" in text
    assert "$^{a}$ t." in text
    assert r"\textbf" not in table_latex.render(_grid("t", best=False))


@pytest.mark.skipif(COMPILER is None, reason="no LaTeX compiler (pdflatex, tectonic, xelatex, lualatex) is installed")
@pytest.mark.parametrize("name", ["table-1", "table-3", "voc-detection"])
def test_a_compiler_takes_it(name: str, tmp_path: Path) -> None:
    table = table_latex.render(lay_out(collect(table_read.load(name), None)))
    head = "\\documentclass{article}\n\\usepackage[landscape]{geometry}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{table}\n\\end{{document}}\n")
    flags = [] if COMPILER == "tectonic" else ["-interaction=nonstopmode", "-halt-on-error"]
    assert COMPILER is not None
    done = subprocess.run([COMPILER, *flags, "t.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 1000
