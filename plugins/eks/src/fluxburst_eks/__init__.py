"""Bursting into node groups of Amazon EKS clusters."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fluxburst import PluginType, hookimpl
from fluxburst_eks.parameters import BurstParameters
from fluxburst_eks.plugin import EksBurst

__all__ = ["BurstParameters", "EksBurst"]


@hookimpl
def fluxburst_register_plugins() -> Sequence[PluginType[BurstParameters]]:
    """Offer the burst plugin ``eks``."""
    return [PluginType("eks", BurstParameters, EksBurst)]


@hookimpl
def fluxburst_register_commands() -> Sequence[click.Command]:
    """Offer ``fluxburst eks``."""
    from fluxburst_eks.cli import eks

    return [eks]
