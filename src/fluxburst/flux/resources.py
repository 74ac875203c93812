"""Parses Flux's resource sets (R, RFC 20) and the status RPCs that carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fluxburst.errors import FormatError
from fluxburst.formats.hostlist import format_idset, parse_hostlist, parse_idset
from fluxburst.model.node import Node


@dataclass(frozen=True)
class RankResources:
    """The resources of one rank in an R."""

    hostname: str
    cores: frozenset[int]
    gpus: frozenset[int]


def parse_r(rset: object) -> dict[int, RankResources]:
    """Parse an R of version 1 into the resources of each rank.

    Raises:
        FormatError: if it is not one.
    """
    try:
        assert isinstance(rset, Mapping)
        execution = rset["execution"]
        entries = list(_ranks(execution["R_lite"]))
        hosts = [host for part in execution["nodelist"] for host in parse_hostlist(part)]
    except (AssertionError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(rset, "a resource set R of version 1 (RFC 20)") from error
    ranks = sorted({rank for rank, _, _ in entries})
    names = dict(zip(ranks, hosts, strict=False))
    if len(hosts) < len(ranks):
        raise FormatError(rset, "a resource set R: it lists more ranks than hosts")
    return {rank: RankResources(names[rank], cores, gpus) for rank, cores, gpus in entries}


def _ranks(entries: Any) -> Iterator[tuple[int, frozenset[int], frozenset[int]]]:
    for entry in entries:
        children = entry["children"]
        cores = frozenset(parse_idset(children.get("core", "")))
        gpus = frozenset(parse_idset(children.get("gpu", "")))
        for rank in parse_idset(str(entry["rank"])):
            yield rank, cores, gpus


def properties_of(rset: Mapping[str, Any]) -> dict[int, frozenset[str]]:
    """Return the properties (RFC 20) of each rank that has any."""
    found: dict[int, set[str]] = {}
    for name, ranks in (rset["execution"].get("properties") or {}).items():
        for rank in parse_idset(ranks):
            found.setdefault(rank, set()).add(name)
    return {rank: frozenset(names) for rank, names in found.items()}


def nodes_from_status(resource: Mapping[str, Any], sched: Mapping[str, Any]) -> tuple[Node, ...]:
    """Combine the answers of ``resource.status`` and ``resource.sched-status`` into nodes.

    Raises:
        FormatError: if either answer is malformed.
    """
    try:
        everything = parse_r(sched["all"])
        allocated = parse_r(sched["allocated"])
        offline = set(parse_idset(resource.get("offline") or ""))
        # The scheduler's "down" nodes are all it may not use, including drained and torpid ones.
        aside = set(parse_r(sched["down"])) - offline
        aside.update(parse_idset(resource.get("exclude") or ""))
        drains = {
            rank: (str(drain.get("reason") or ""), _time_of(drain.get("timestamp")))
            for ranks, drain in (resource.get("drain") or {}).items()
            for rank in parse_idset(ranks)
        }
        properties = properties_of(sched["all"])
    except (KeyError, AttributeError, TypeError) as error:
        raise FormatError(sched, "an answer of resource.sched-status") from error
    nothing = RankResources("", frozenset(), frozenset())
    return tuple(
        Node(
            rank=rank,
            hostname=has.hostname,
            cores=len(has.cores),
            gpus=len(has.gpus),
            free_cores=len(has.cores - allocated.get(rank, nothing).cores),
            free_gpus=len(has.gpus - allocated.get(rank, nothing).gpus),
            up=rank not in offline,
            drained=rank in aside or rank in drains,
            properties=properties.get(rank, frozenset()),
            drain_reason=drains[rank][0] if rank in drains else "",
            drained_at=drains[rank][1] if rank in drains else None,
        )
        for rank, has in sorted(everything.items())
    )


def _time_of(timestamp: object) -> float | None:
    return float(timestamp) if isinstance(timestamp, (int, float)) else None


def status_from_nodes(nodes: tuple[Node, ...]) -> dict[str, Any]:
    """Format nodes as the answers that :func:`nodes_from_status` reads.

    Keeps only the number of allocated cores, not which.
    """
    nodes = tuple(sorted(nodes, key=lambda node: node.rank))

    everything = [(node, node.cores, node.gpus) for node in nodes]
    allocated = [
        (node, node.cores - node.free_cores, node.gpus - node.free_gpus)
        for node in nodes
        if not node.idle
    ]
    return {
        "resource.status": {
            "offline": format_idset(node.rank for node in nodes if not node.up),
            "drain": {
                str(node.rank): {"reason": node.drain_reason, "timestamp": node.drained_at}
                for node in nodes
                if node.drained
            },
            "exclude": "",
        },
        "sched.resource-status": {
            "all": _rset(everything),
            "allocated": _rset(allocated),
            "down": _rset([(node, node.cores, node.gpus) for node in nodes if not node.up]),
        },
    }


def _rset(chosen: list[tuple[Node, int, int]]) -> dict[str, Any]:
    """Format this many cores and gpus of each node as a resource set (RFC 20)."""
    lite = [
        {
            "rank": str(node.rank),
            "children": {
                key: format_idset(range(count))
                for key, count in (("core", cores), ("gpu", gpus))
                if count
            },
        }
        for node, cores, gpus in chosen
    ]
    hosts = [node.hostname for node, _, _ in chosen] or [""]
    properties: dict[str, list[int]] = {}
    for node, _, _ in chosen:
        for name in sorted(node.properties):
            properties.setdefault(name, []).append(node.rank)
    execution: dict[str, Any] = {"R_lite": lite, "nodelist": hosts}
    if properties:
        execution["properties"] = {n: format_idset(r) for n, r in properties.items()}
    return {"version": 1, "execution": execution}
