"""Bursting onto node pools of Google Kubernetes Engine."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fluxburst import PluginType, hookimpl
from fluxburst_gke.parameters import BurstParameters
from fluxburst_gke.plugin import GkeBurst

__all__ = ["BurstParameters", "GkeBurst"]


@hookimpl
def fluxburst_register_plugins() -> Sequence[PluginType[BurstParameters]]:
    """Offer the burst plugin ``gke``."""
    return [PluginType("gke", BurstParameters, GkeBurst)]


@hookimpl
def fluxburst_register_commands() -> Sequence[click.Command]:
    """Offer ``fluxburst gke``."""
    from fluxburst_gke.cli import gke

    return [gke]
