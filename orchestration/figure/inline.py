"""A figure as part of a page: SVG whose colors follow the page's scheme, and whose ids are no other figure's."""

from __future__ import annotations

import html
import io
import re

from orchestration.figure.style import Picture, look
from orchestration.sweep.words import one_line

FONT = "system-ui, sans-serif"
_COLOR = re.compile(r"#([0-9a-f]{6})\b")
_STYLE = re.compile(r'style="([^"]*)"')
_ID = re.compile(r'(\bid="|url\(#|xlink:href="#)')
_LEFT_OUT = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_SIZE = re.compile(r'<svg\b[^>]*\bviewBox="([^"]*)"[^>]*>')


def inline(picture: Picture, prefix: str) -> str:
    """Return the picture as an SVG element named by its title and described by its caption.

    A color `#004488` becomes `var(--f-004488, #004488)`, so that a page can give it another value in the dark. `prefix`
    is put before each id.
    """
    buffer = io.StringIO()
    with look():
        picture.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = _LEFT_OUT.sub("", buffer.getvalue()).strip()
    text = _STYLE.sub(lambda found: f'style="{_themed(found.group(1))}"', text)
    text = _ID.sub(lambda found: f"{found.group(1)}{prefix}-", text).replace("xlink:href", "href")
    return _SIZE.sub(lambda found: _open(picture, prefix, found.group(1)), text, count=1)


def _themed(style: str) -> str:
    named = _COLOR.sub(lambda found: f"var(--f-{found.group(1)}, #{found.group(1)})", style)
    return re.sub(r"'?DejaVu Sans'?(, sans-serif)?", FONT, named)


def _open(picture: Picture, prefix: str, box: str) -> str:
    title, caption = (html.escape(one_line(each)) for each in (picture.title, picture.caption))
    width = float(box.split()[2])
    return (
        f'<svg class="plot" viewBox="{box}" style="--width: {width:.0f}" role="img"'
        f' aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc">'
        f'<title id="{prefix}-title">{title}</title><desc id="{prefix}-desc">{caption}</desc>'
    )
