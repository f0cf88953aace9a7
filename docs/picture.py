"""Turn a terminal's screen into the SVG that the README shows.

tmux new-session -d -s demo -x 100 -y 24 'leoclr-ops submit quickstart'
tmux capture-pane -e -p -t demo | python docs/picture.py "leoclr-ops submit quickstart" > docs/terminal.svg
"""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 100  # columns of the captured terminal


def main() -> None:
    """Read the screen with its colors from stdin and write the picture to stdout."""
    screen = sys.stdin.read().rstrip("\n")
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen))
    sys.stdout.write(console.export_svg(title=sys.argv[1], theme=MONOKAI))


if __name__ == "__main__":
    main()
