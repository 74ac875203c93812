"""What is said on standard error; what others wrote is in it, so no terminal is to obey it."""

from __future__ import annotations

import click


def complain(line: str) -> None:
    """Print a line on standard error."""
    click.echo(f"fluxburst: {printable(line)}", err=True)


def printable(value: object) -> str:
    """Return a text without what would move a terminal's cursor: job names are anybody's."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(value))
