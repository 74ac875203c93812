"""Chooses free declared hosts for bursts."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

from fluxburst import Burst
from fluxburst.errors import CapacityError
from fluxburst.formats.hostlist import format_hostlist
from fluxburst.formats.units import counted
from fluxburst.plugin import LIVE_STATES
from fluxburst.provider.elastic import Shape
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst.provider.machine_types import machine_of


class DeclaredHosts:
    """The declared hosts; each belongs to at most one burst at a time.

    Args:
        site: The plugin, which knows the instance and the existing bursts.
        shapes: The declared hosts, by machine type.
    """

    def __init__(self, site: ElasticPlugin, shapes: Sequence[Shape]) -> None:
        self._site = site
        self._shapes = shapes
        self._lock = threading.Lock()
        self._taken: dict[str, str] = {}
        """Hosts of bursts in creation, with the burst."""

    def free(self, *, but: str = "") -> dict[str, list[str]]:
        """Return the free declared hosts, by machine type.

        Bursts with unknown hosts reduce the number accordingly; hosts in ``but`` are skipped.
        """
        site = self._site
        busy = {node.hostname for node in site.instance.nodes() if node.up or node.drained}
        live = [b for b in site.bursts.values() if b.state in LIVE_STATES and b.name != but]
        busy.update(host for burst in live for host in burst.hostnames)
        free = {}
        for shape in self._shapes:
            hosts = [host for host in shape.hosts if host not in busy]
            coming = sum(
                burst.nodes
                for burst in live
                if not burst.hostnames and machine_of(burst.node_type)[0] == shape.name
            )
            free[shape.name] = hosts[: max(0, len(hosts) - coming)] if not but else hosts
        return free

    def take(self, burst: Burst, there: Collection[str], but: Collection[str]) -> list[str]:
        """Choose the hosts of a burst, and reserve them until :meth:`release`.

        Args:
            burst: The burst.
            there: The hosts with an existing machine.
            but: The hosts whose names are known to be in use.

        Raises:
            CapacityError: if too few are free.
        """
        machine_type, _ = machine_of(burst.node_type)
        with self._lock:
            free = [
                host
                for host in self.free(but=burst.name).get(machine_type, ())
                if host not in there
                and host not in but
                and host not in self._taken
                and (not burst.hosts or host in burst.hosts)
            ]
            if len(free) < burst.nodes:
                raise self._too_few(burst, machine_type, len(free), but)
            hosts = free[: burst.nodes]
            self._taken.update(dict.fromkeys(hosts, burst.name))
        return hosts

    def _too_few(
        self, burst: Burst, machine_type: str, free: int, but: Collection[str]
    ) -> CapacityError:
        others = f"; names already in use: {format_hostlist(sorted(but))}" if but else ""
        if burst.hosts:
            others += f"; required hosts: {format_hostlist(burst.hosts)}"
        return CapacityError(
            f"{counted(burst.nodes, 'node')} requested; declared hosts of "
            f"{machine_type} that are down and free: {free}{others}",
            plugin=self._site.name,
            burst=burst.name,
        )

    def release(self, burst: str) -> None:
        """Release the hosts reserved for a burst: its machines show them from now on."""
        with self._lock:
            for host in [host for host, name in self._taken.items() if name == burst]:
                del self._taken[host]
