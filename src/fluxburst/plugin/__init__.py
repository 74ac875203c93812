"""What a package implements to supply bursts.

:class:`BurstPlugin` and :class:`BurstParameters` are its bases, :class:`PluginType` is what it
offers by ``fluxburst_register_plugins``, :class:`Finding` what it reports to ``fluxburst doctor``.
"""

from __future__ import annotations

from fluxburst.model.burst import LIVE_STATES
from fluxburst.model.constraints import compiled
from fluxburst.model.identity import OWNER, RUN_AS_HELP, SUBMITTER, RunAs
from fluxburst.packing.fitting import could_fit
from fluxburst.packing.pool import Candidates
from fluxburst.plugin.base import (
    BurstParameters,
    BurstPlugin,
    Finding,
    PluginType,
    only_looking,
)
from fluxburst.plugin.client_view import ClientView

__all__ = [
    "LIVE_STATES",
    "OWNER",
    "RUN_AS_HELP",
    "SUBMITTER",
    "BurstParameters",
    "BurstPlugin",
    "Candidates",
    "ClientView",
    "Finding",
    "PluginType",
    "RunAs",
    "compiled",
    "could_fit",
    "only_looking",
]
