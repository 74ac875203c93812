"""Draw ``fluxburst demo`` as an SVG picture: ``python docs/draw_demo.py FILE``."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console

from fluxburst.cli.demo import show

WIDTH = 100
REMOTE_FONTS = re.compile(r"@font-face {.*?}\s*", re.DOTALL)
"""The fonts that browsers would load from another site."""


def main(file: str) -> None:
    """Run the demo into ``file``."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print("[bold]$ fluxburst demo[/]")
    show(console)
    picture = console.export_svg(title="fluxburst demo", unique_id="demo")
    Path(file).write_text(REMOTE_FONTS.sub("", picture))


if __name__ == "__main__":
    main(sys.argv[1])
