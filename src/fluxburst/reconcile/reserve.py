"""Reserves capacity: records the intent, and its possible cost, before any request."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fluxburst.errors import LimitError, RequestError
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.job import Job, Mark
from fluxburst.model.node import NodeType
from fluxburst.model.plan import Plan
from fluxburst.packing.limits import Budget, owner_of
from fluxburst.planning.lifespans import Lifespans
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin, as_burst_error
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.shared import Shared


@dataclass(frozen=True)
class Reservation:
    """A recorded intent: the request to a plugin.

    Attributes:
        plugin: The plugin.
        bursts: The bursts to request.
        refused: Bursts that a limit no longer allows; ``error`` says which.
        jobs: The jobs assigned to it.
        marks: The marks for them.
        placeholder: Represents bursts that the plugin sizes itself, until it reports them.
    """

    plugin: BurstPlugin
    bursts: Sequence[Burst]
    refused: Sequence[Burst]
    jobs: Mapping[int, Job]
    marks: Mapping[int, Mark]
    placeholder: Burst | None


class Reserver:
    """Reserves bursts for one client.

    Args:
        shared: What the parts of a client share.
        assigner: Records which jobs are assigned.
        budget: Returns what the limits leave now.
    """

    def __init__(
        self, shared: Shared, assigner: Assigner, budget: Callable[[float], Budget]
    ) -> None:
        self._store = shared.store
        self._assigner = assigner
        self._shared = shared
        self._budget = budget

    def reserve(self, plugin: BurstPlugin, assigned: Sequence[int], plan: Plan) -> Reservation:
        """Record the request to a plugin for the jobs assigned to it."""
        offered = {jobid: plan.jobs[jobid] for jobid in assigned}
        planned = [
            burst
            for burst in plan.bursts
            if burst.plugin == plugin.name and not offered.keys().isdisjoint(burst.jobs)
        ]
        reserved, refused = self._reserve(plugin, planned, offered)
        for jobid in {job for burst in refused for job in burst.jobs}:
            offered.pop(jobid)
        burst_of = {job: name for job, name in plan.shares_burst.items() if job in offered}
        burst_of.update({job: b.name for b in reserved for job in b.jobs})
        provider = provider_of(plugin)
        placeholder = None
        if offered and not reserved:
            placeholder = self._record(provider.placeholder(offered))
        if placeholder and provider.sizes_bursts:
            burst_of = dict.fromkeys(offered, placeholder.name)
        marks = self._assigner.record(plugin, offered, burst_of)
        return Reservation(plugin, reserved, refused, offered, marks, placeholder)

    def reserve_on_demand(
        self, plugin: BurstPlugin, nodes: int | None, tasks: int | None
    ) -> tuple[Burst, ...]:
        """Size and record a burst on demand; return none for a plugin that sizes it itself.

        Raises:
            FluxburstError: if sizing it fails, or a limit does not allow it.
        """
        burst = _on_demand(plugin, nodes, tasks)
        if burst is None:
            return ()
        burst = replace(burst, name=self._store.ledger.free_name(burst.name))
        reserved, refused = self._reserve(plugin, [burst], {})
        for burst in refused:
            raise LimitError(burst.error, plugin=plugin.name, burst=burst.name)
        return tuple(reserved)

    def _reserve(
        self, plugin: BurstPlugin, bursts: Sequence[Burst], jobs: Mapping[int, Job]
    ) -> tuple[list[Burst], list[Burst]]:
        """Record the intent and reserve the money, in one transaction.

        Returns the bursts, and those that a limit no longer allows.
        """
        reserved: list[Burst] = []
        refused: list[Burst] = []
        ledger, lifespans = self._store.ledger, Lifespans(self._shared.policy.lifetimes)
        for burst in bursts:
            theirs = [jobs[jobid] for jobid in burst.jobs if jobid in jobs]
            lease, now = lifespans.lease_of(burst, plugin, theirs), self._store.now()
            burst = replace(burst, lease_until=now + lease if math.isfinite(lease) else None)
            with ledger.transaction():
                budget = self._budget(now)
                entry = self._store.request(burst, theirs)
                kind = NodeType(burst.node_type, 0, price=burst.price)
                owner = owner_of(entry)._replace(lease=lease)
                why = budget.why_not(owner, kind, burst.nodes)
                if why:
                    ended = replace(burst, state=BurstState.FAILED, error=why)
                    ledger.record(ended, now)
            if why:
                refused.append(ended)
            else:
                reserved.append(burst)
        return reserved, refused

    def _record(self, placeholder: Burst | None) -> Burst | None:
        """Record the request to a plugin that sizes its bursts itself."""
        if placeholder is not None:
            name = self._store.ledger.free_name(placeholder.name)
            placeholder = replace(placeholder, name=name)
            self._store.request(placeholder)
        return placeholder


def _on_demand(plugin: BurstPlugin, nodes: int | None, tasks: int | None) -> Burst | None:
    """Return the burst that a plugin sizes for a request on demand.

    Raises:
        FluxburstError: if it fails, or returns something else.
    """
    try:
        burst = provider_of(plugin).size(nodes, tasks)
    except (KeyboardInterrupt, RequestError):
        raise
    except BaseException as error:
        raise as_burst_error(error, plugin.name) from error
    return None if burst is None else replace(burst, plugin=plugin.name)
