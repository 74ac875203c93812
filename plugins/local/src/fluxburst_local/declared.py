"""The nodes declared for bursts, and which of them are free to start."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable

from fluxburst import Node
from fluxburst.formats.hostlist import parse_hostlist
from fluxburst.provider.elastic import BURST_PROPERTY
from fluxburst.provider.elastic_plugin import ElasticPlugin
from fluxburst_local.allocations import allocated_hosts
from fluxburst_local.launchers import Launched


class DeclaredNodes:
    """The nodes of an instance that bursts may start or have started.

    Args:
        site: The plugin, which gives the instance and its directory on demand.
        hostnames: The hosts to use, a hostlist; None for the declared ones.
    """

    def __init__(self, site: ElasticPlugin, hostnames: str | None) -> None:
        self._site = site
        self._hostnames = hostnames

    @functools.cached_property
    def hosts(self) -> frozenset[str]:
        """The hosts of burst nodes: named ones, those with the property, or an allocation's."""
        if self._hostnames:
            return frozenset(parse_hostlist(self._hostnames))
        if self._site.isolated:
            return frozenset(self._site.elastic.burst_hosts)
        nodes = self._site.instance.nodes()
        told = {node.hostname for node in nodes if BURST_PROPERTY in node.properties}
        if told:
            return frozenset(told)
        return frozenset(allocated_hosts(os.environ))

    def nodes(self) -> list[Node]:
        """Return the current nodes.

        For isolated bursts, the declared nodes, whether the instance has them or not.
        """
        if self._site.isolated:
            return self._outside()
        return [node for node in self._site.instance.nodes() if node.hostname in self.hosts]

    def _outside(self) -> list[Node]:
        known = {node.hostname: node for node in self._site.instance.nodes()}
        return [
            known.get(host) or Node(-1, host, shape.cores, shape.gpus, up=False)
            for shape in self._site.elastic.all_shapes
            for host in shape.hosts
            if host in self.hosts
        ]

    def available(self, launched: Iterable[Launched]) -> list[Node]:
        """Return the nodes that are free to start, except launched ones."""
        taken = {host for one in launched for host in one.hosts}
        return [
            node
            for node in self.nodes()
            if not node.up and node.hostname not in taken and not node.drained
        ]


def type_name(cores: int, gpus: int) -> str:
    """Return the name of a node's node type, from its resources."""
    return f"{cores}-core" + (f"-{gpus}-gpu" if gpus else "")
