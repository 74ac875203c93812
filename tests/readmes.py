"""What the README of a plugin names in its tables, and its commands, run as they stand."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click
from tests.elastic_instance import free_port, outside


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def first_cells(text: str, after: str) -> str:
    """Return the first cells of the first table after a text."""
    table = re.search(r"^\|.*?\n\n", text.partition(after)[2], re.MULTILINE | re.DOTALL)
    assert table is not None
    return " ".join(line.split("|")[1] for line in table[0].splitlines()[2:] if line)


def parameters_named(text: str) -> list[str]:
    """Return the parameters in the first column of their table, sorted."""
    return sorted(re.findall(r"`(\w+)`", first_cells(text, "## Parameters")))


def options_named(text: str, after: str) -> list[str]:
    """Return the options in the first column of the first table after a text, sorted."""
    return sorted(re.findall(r"`(--[\w-]+)`", first_cells(text, after)))


def options_of(command: click.Command) -> list[str]:
    """Return the options of a command that are shown to users, sorted."""
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    return sorted(option.opts[0] for option in options)


def run_commands(
    text: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the block that makes an elastic instance and bursts in it.

    It is run as it stands, but for where the lead listens: that is here, at a port that is free.

    Args:
        text: The README.
        cwd: Where to run it.
        environment: What to add to an environment outside of any instance.
    """
    begins = re.compile(r" init \./elastic .*( start \./elastic |\./elastic/start )", re.DOTALL)
    (commands,) = [block for block in blocks(text, "sh") if begins.search(block)]
    commands = commands.replace(" init ./elastic ", f" init ./elastic --port {free_port()} ")
    return subprocess.run(
        ["sh", "-ec", commands.replace("lead.example.org", "127.0.0.1")],
        env={**outside(), **(environment or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
