"""Lines on standard error, with control characters of foreign text removed."""

from __future__ import annotations

import click


def complain(line: str) -> None:
    """Print a line on standard error."""
    click.echo(f"fluxburst: {printable(line)}", err=True)


def printable(value: object) -> str:
    """Return a text without control characters: any user may put them into a job's name."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(value))
