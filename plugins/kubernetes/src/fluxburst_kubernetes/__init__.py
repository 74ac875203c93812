"""Bursting into a Kubernetes cluster that has the Flux Operator."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fluxburst import PluginType, hookimpl
from fluxburst_kubernetes.parameters import BurstParameters
from fluxburst_kubernetes.plugin import KubernetesBurst

__all__ = ["BurstParameters", "KubernetesBurst"]


@hookimpl
def fluxburst_register_plugins() -> Sequence[PluginType[BurstParameters]]:
    """Offer the burst plugin ``kubernetes``."""
    return [PluginType("kubernetes", BurstParameters, KubernetesBurst)]


@hookimpl
def fluxburst_register_commands() -> Sequence[click.Command]:
    """Offer ``fluxburst kubernetes``."""
    from fluxburst_kubernetes.cli import kubernetes

    return [kubernetes]
