"""fluxburst extends a Flux instance with capacity from elsewhere, and terminates it after use.

For users: :class:`~fluxburst.client.FluxBurst`. For plugin authors: :data:`hookimpl`,
:class:`BurstPlugin`, :class:`PluginType`, :class:`NodeType`, :class:`Burst`,
:class:`BurstState`, and the errors in :mod:`fluxburst.errors`.

Importing this imports neither Flux nor any plugin. Each name's module is imported on first use,
so that a command line that only prints its help starts fast.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from fluxburst import moved

if TYPE_CHECKING:
    from fluxburst.client import FluxBurst
    from fluxburst.formats.units import ByteSize, Duration
    from fluxburst.hookspecs import hookimpl
    from fluxburst.model.burst import Burst, BurstRequest, BurstState, EndReason
    from fluxburst.model.job import Job
    from fluxburst.model.node import Node, NodeType
    from fluxburst.model.plan import Decision, Outcome, Plan
    from fluxburst.plugin.base import BurstParameters, BurstPlugin, PluginType

_MODULES = {
    "Burst": "model.burst",
    "BurstParameters": "plugin.base",
    "BurstPlugin": "plugin.base",
    "BurstRequest": "model.burst",
    "BurstState": "model.burst",
    "ByteSize": "formats.units",
    "Decision": "model.plan",
    "Duration": "formats.units",
    "EndReason": "model.burst",
    "FluxBurst": "client",
    "Job": "model.job",
    "Node": "model.node",
    "NodeType": "model.node",
    "Outcome": "model.plan",
    "Plan": "model.plan",
    "PluginType": "plugin.base",
    "hookimpl": "hookspecs",
}

__all__ = [
    "Burst",
    "BurstParameters",
    "BurstPlugin",
    "BurstRequest",
    "BurstState",
    "ByteSize",
    "Decision",
    "Duration",
    "EndReason",
    "FluxBurst",
    "Job",
    "Node",
    "NodeType",
    "Outcome",
    "Plan",
    "PluginType",
    "hookimpl",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())
moved.install()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fluxburst' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fluxburst.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
