"""What plugins lack of what they were set up for, as they say it themselves."""

from __future__ import annotations

from collections.abc import Mapping

from fluxburst.plugin.base import BurstPlugin


class Lacking:
    """Why plugins can supply less than they were set up for; each is asked once.

    Args:
        plugins: The plugins by name.
    """

    def __init__(self, plugins: Mapping[str, BurstPlugin]) -> None:
        self._plugins = plugins
        self._known: dict[str, list[str]] = {}

    def of(self, name: str) -> list[str]:
        """Return what one plugin says; a plugin that cannot tell says nothing."""
        if name not in self._known:
            try:
                self._known[name] = [str(line) for line in self._plugins[name].lacking()]
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - it is said elsewhere what a plugin cannot do
                self._known[name] = []
        return self._known[name]
