"""fluxburst's reference plugin: nodes in memory, with prices, that fail on demand.

The entry point names this module. It offers the burst plugin ``mock`` and imports nothing that
could fail or be slow; a plugin for a cloud would import the cloud's library in the factory.
"""

from __future__ import annotations

from fluxburst import PluginType, hookimpl
from fluxburst_mock.plugin import BurstParameters, MockBurst


@hookimpl
def fluxburst_register_plugins() -> list[PluginType[BurstParameters]]:
    """Offer the burst plugin ``mock``."""
    return [PluginType("mock", BurstParameters, MockBurst)]
