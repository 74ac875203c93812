"""The limits: whether they limit all plugins, and whether they leave room for a node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from fluxburst.config.policy import Limits
from fluxburst.formats.units import format_duration
from fluxburst.model.node import NodeType
from fluxburst.packing.limits import Budget, BudgetLine, Spent
from fluxburst.plugin.base import Finding
from fluxburst.reports.doctor.findings import ok, warning
from fluxburst.reports.doctor.installation import Installation

_MONEY = ("cost_per_hour", "cost_per_day", "cost")


def check_limits(installation: Installation) -> Iterator[Finding]:
    """Check the limits against the node types and the lease."""
    client = installation.client
    policy, limits = client.policy, client.policy.limits
    if not limits.is_set:
        yield ok("none set")
        return
    types = {name: list(plugin.node_types()) for name, plugin in client.plugins.items()}
    yield from _check_unpriced(limits, types)
    for name in limits.plugins:
        if name not in client.plugins:
            text = f"limits.plugins.{name} names a plugin that is not loaded"
            yield warning(text, "correct its name, or remove the table")
    lease = min(policy.lifetimes.lease, policy.lifetimes.max_lifetime)
    for line in Budget(limits, Spent(client.now()), lease).lines():
        yield from _check_line(line, types, lease)
    yield ok("consistent with the node types and the lease")


def _check_unpriced(limits: Limits, types: dict[str, list[NodeType]]) -> Iterator[Finding]:
    tables = [limits, *limits.plugins.values(), *limits.users.values(), *limits.queues.values()]
    of_money = any(name in _MONEY for table in tables for name, _ in table.values())
    for plugin, kinds in types.items():
        free = [kind.name for kind in kinds if not kind.price]
        if free and of_money:
            text = f"costs are limited, but these node types of {plugin} have no price"
            yield warning(f"{text}: {', '.join(free)}", "set prices in its parameters")
        if not kinds:
            text = f"{plugin} sizes its bursts itself: no limit applies"
            yield warning(text, "set limits at its provider")


def _check_line(
    line: BudgetLine, types: dict[str, list[NodeType]], lease: float
) -> Iterator[Finding]:
    """Check that an unused limit leaves room for one node."""
    scope = line.scope
    those = (
        types.get(scope.name, []) if scope.kind == "plugin" else [*itertools.chain(*types.values())]
    )
    if not those:
        return
    cheapest = min(those, key=lambda kind: kind.price)
    if line.nodes_left(cheapest.price, opens=True) >= 1:
        return
    text = f"the limit {line.what} of {scope} is {line.limit:g}: no burst can start"
    advice = "raise it"
    if line.what not in ("nodes", "bursts"):
        needs = line.weight(cheapest.price)
        text += f", since one node of the cheapest type ({cheapest.name}) takes {needs:g}"
    if line.share and line.limit:
        text += f" until its lease of {format_duration(lease)} ends"
        advice += ", or shorten lifetimes.lease"
    yield warning(text, advice)
