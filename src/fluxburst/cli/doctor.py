"""``fluxburst doctor``: likely problems, and how to fix them."""

from __future__ import annotations

import dataclasses

import click
from rich.text import Text

from fluxburst.cli.app import FAILED, OK, Command, settings_of
from fluxburst.cli.complaints import printable
from fluxburst.cli.output import console, print_json, table
from fluxburst.reports.doctor import Doctor

_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command(cls=Command)
@click.pass_context
def doctor(context: click.Context) -> int:
    """Check everything fluxburst depends on and suggest fixes. Changes nothing."""
    settings = settings_of(context)
    found = Doctor(
        settings.load_config,
        settings.instance(),
        settings.plugins,
        settings.block,
        settings.directory,
    ).examine()
    if settings.json:
        print_json([{"check": c.check, **dataclasses.asdict(c.finding)} for c in found])
    else:
        rows = [
            (
                checked.check,
                Text(checked.finding.level, style=_STYLES[checked.finding.level]),
                _said(checked.finding.what, checked.finding.advice),
            )
            for checked in found
            if checked.finding.level != "ok" or not settings.quiet
        ]
        console().print(table("Findings", ["check", "status", "finding and advice"], rows))
    return FAILED if any(c.finding.level == "error" for c in found) else OK


def _said(what: str, advice: str) -> Text:
    text = Text(printable(what))
    return text.append(printable(f"\n→ {advice}"), style="bold") if advice else text
