"""How every figure looks, and how one is written: Matplotlib, without touching its global settings.

Widths are those of a column and of a page of a two-column paper. Colors are Paul Tol's high- and medium-contrast
schemes (sronpersonalpages.nl/~pault): told apart by color-blind readers and in gray print; markers, lines and hatches
tell the same once more. SVG files keep text as text. The same sweep gives the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from orchestration.sweep.words import PLUS_MINUS, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.3, 6.8  # inches
SMALL, NORMAL = 6.5, 7.5  # points
DPI = 300  # print
COLORS = ("#004488", "#ddaa33", "#bb5566", "#6699cc", "#997700", "#ee99aa", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "---", "ooo")
GRAY, FAINT = "#666666", "#dddddd"
CHARACTER = 0.053  # inches of a label's, on average
SWATCH = 0.45  # inches of a legend's entry beside its words
MAX_TICK = 14  # characters of a line of a tick's label
MAX_SIZE = 1e15  # larger numbers leave no digits for the ticks of an axis

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib
    "font.size": NORMAL,
    "axes.labelsize": NORMAL,
    "axes.titlesize": NORMAL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "hatch.linewidth": 0.5,
    "text.parse_math": False,  # a label may hold a dollar
    "svg.fonttype": "none",
    "svg.hashsalt": "leoclr-ops",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn figure; the caption says all that a reader needs who cannot see it."""

    name: str  # of its files
    title: str
    caption: str
    figure: Figure


@contextmanager
def look() -> Iterator[None]:
    """Draw and save within: the settings of this module, on Matplotlib's defaults, for as long as it lasts."""
    import matplotlib

    settings: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    with matplotlib.rc_context(settings | _RC), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font"
        )  # a label in a script that the font lacks
        warnings.filterwarnings("ignore", message="constrained_layout not applied")  # labels longer than the page
        yield


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(picture: Picture, folder: Path) -> list[Path]:
    """Write the picture as PNG and SVG; return the paths."""
    about = {"Title": one_line(picture.title), "Description": one_line(picture.caption)}
    png, svg = folder / f"{picture.name}.png", folder / f"{picture.name}.svg"
    with look():
        picture.figure.savefig(png, metadata=about | {"Software": None})
        picture.figure.savefig(svg, metadata=about | {"Date": None, "Creator": None})
    return [png, svg]


def tick(label: str, most: int = MAX_TICK) -> str:
    """Return the label of a tick, in lines of at most so many characters."""
    lines = wrap(one_line(label), most) or [""]
    return "\n".join(lines if len(lines) < 4 else [*lines[:3], "..."])


def legend_columns(legend: Sequence[str], width: float, most: int) -> int:
    """Return in how many columns the entries of a legend fit over a figure of `width` inches; 0 where none does."""
    entry = SWATCH + max(map(len, legend), default=0) * CHARACTER
    return min(most, len(legend), int(width / entry))


def pretty(said: str) -> str:
    """Return a number as print has it: with a minus that is as wide as a plus, and the sign for its spread."""
    return said.replace(PLUS_MINUS, "\u00b1").replace("-", "\u2212")


def short(label: str, limit: int = 40) -> str:
    """Return a label for a legend."""
    said = one_line(label)
    return said if len(said) <= limit else f"{said[: limit - 3]}..."


def letter(axes: Axes, i: int, title: str) -> None:
    """Write the title of the i-th panel."""
    axes.set_title(f"({chr(ord('a') + i)}) {title}")
