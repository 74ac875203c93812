"""Draw ``fluxburst demo`` as an SVG picture: ``python docs/draw_demo.py FILE``."""

from __future__ import annotations

import io
import sys

from rich.console import Console

from fluxburst.cli.demo import show

WIDTH = 100


def main(file: str) -> None:
    """Run the demo into ``file``."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False)
    console.print("[bold]$ fluxburst demo[/]")
    show(console)
    console.save_svg(file, title="fluxburst demo", unique_id="demo")


if __name__ == "__main__":
    main(sys.argv[1])
