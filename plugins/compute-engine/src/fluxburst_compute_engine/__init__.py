"""Bursting onto virtual machines of Google's Compute Engine."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fluxburst import PluginType, hookimpl
from fluxburst_compute_engine.parameters import BurstParameters
from fluxburst_compute_engine.plugin import ComputeEngineBurst

__all__ = ["BurstParameters", "ComputeEngineBurst"]


@hookimpl
def fluxburst_register_plugins() -> Sequence[PluginType[BurstParameters]]:
    """Offer the burst plugin ``compute_engine``."""
    return [PluginType("compute_engine", BurstParameters, ComputeEngineBurst)]


@hookimpl
def fluxburst_register_commands() -> Sequence[click.Command]:
    """Offer ``fluxburst compute-engine``."""
    from fluxburst_compute_engine.cli import compute_engine

    return [compute_engine]
