"""Bursting onto more nodes of the same site."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fluxburst import PluginType, hookimpl
from fluxburst_local.parameters import BurstParameters
from fluxburst_local.plugin import LocalBurst

__all__ = ["BurstParameters", "LocalBurst"]


@hookimpl
def fluxburst_register_plugins() -> Sequence[PluginType[BurstParameters]]:
    """Offer the burst plugin ``local``."""
    return [PluginType("local", BurstParameters, LocalBurst)]


@hookimpl
def fluxburst_register_commands() -> Sequence[click.Command]:
    """Offer ``fluxburst local``."""
    from fluxburst_local.cli import local

    return [local]
