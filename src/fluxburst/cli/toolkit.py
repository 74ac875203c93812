"""Toolkit for commands that packages add (``fluxburst_register_commands``)."""

from __future__ import annotations

from fluxburst.cli.app import Command, settings_of
from fluxburst.cli.elastic import (
    check_nodes,
    config_file_option,
    counts_of,
    elastic_of,
    instance_options,
    refuse,
    say,
    start_script,
    with_options,
    write,
)
from fluxburst.cli.output import console
from fluxburst.flux.binding import binding_version, check_versions

__all__ = [
    "Command",
    "binding_version",
    "check_nodes",
    "check_versions",
    "config_file_option",
    "console",
    "counts_of",
    "elastic_of",
    "instance_options",
    "refuse",
    "say",
    "settings_of",
    "start_script",
    "with_options",
    "write",
]
