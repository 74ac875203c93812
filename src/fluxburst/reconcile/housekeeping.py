"""Bursts kept from being idle, or from being terminated, by Flux's housekeeping."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fluxburst.flux.protocol import Instance
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.housekeeping import Housekeeping, on_nodes, told
from fluxburst.model.node import Node

_log = logging.getLogger(__name__)


class Housework:
    """Observes the housekeeping on bursts' nodes.

    Args:
        instance: The instance.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._said: set[tuple[str, int]] = set()
        self._found: Sequence[Housekeeping] | None = None

    def begin(self) -> None:
        """Discard the cached answer."""
        self._found = None

    def on(self, burst: Burst, nodes: Sequence[Node]) -> list[int]:
        """Return the jobs whose housekeeping runs on a burst; logs once what its end waits for."""
        names = {n.rank: n.hostname for n in nodes if n.hostname in burst.hostnames and not n.idle}
        if not names:
            return []
        if self._found is None:
            self._found = self._instance.housekeeping()
            self._said &= {(name, one.job) for name, _ in self._said for one in self._found}
        found = on_nodes(self._found, names)
        if burst.state is BurstState.DRAINING:
            self._say(
                burst, [one for one in found if (burst.name, one.job) not in self._said], names
            )
        return [one.job for one in found]

    def _say(self, burst: Burst, found: Sequence[Housekeeping], names: dict[int, str]) -> None:
        if found:
            what = told(found, names, self._instance.now())
            extra = {"burst": burst.name, "plugin": burst.plugin}
            _log.info("burst %s: termination is delayed: %s", burst.name, what, extra=extra)
            self._said.update((burst.name, one.job) for one in found)
