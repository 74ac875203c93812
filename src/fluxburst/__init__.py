"""fluxburst extends a Flux instance with capacity from somewhere else, and takes it down again.

For users: :class:`~fluxburst.client.FluxBurst`. For plugin authors: :data:`hookimpl`,
:class:`BurstPlugin`, :class:`PluginType`, :class:`NodeType`, :class:`Burst`,
:class:`BurstState`, and the errors in :mod:`fluxburst.errors`.

Importing this imports neither Flux nor any plugin.
"""

import logging

from fluxburst.bursts import Burst, BurstRequest, BurstState
from fluxburst.client import FluxBurst
from fluxburst.hookspecs import hookimpl
from fluxburst.jobs import Job
from fluxburst.nodes import Node, NodeType
from fluxburst.plan import Decision, Outcome, Plan
from fluxburst.plugins import BurstParameters, BurstPlugin, PluginType
from fluxburst.quantities import ByteSize, Duration

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "Burst",
    "BurstParameters",
    "BurstPlugin",
    "BurstRequest",
    "BurstState",
    "ByteSize",
    "Decision",
    "Duration",
    "FluxBurst",
    "Job",
    "Node",
    "NodeType",
    "Outcome",
    "Plan",
    "PluginType",
    "hookimpl",
]
