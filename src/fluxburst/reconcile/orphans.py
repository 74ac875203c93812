"""Bursts that a plugin lists but no ledger has: recorded, and terminated.

There is no request here to check their numbers against, but they count against limits.
So a plugin is believed only up to its own maximum.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import replace

from fluxburst.errors import BurstError
from fluxburst.formats.units import counted
from fluxburst.model.burst import Burst, BurstState, EndReason
from fluxburst.model.node import NodeType
from fluxburst.plugin.base import BurstPlugin, as_burst_error
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.drain import Drainer
from fluxburst.reconcile.failures import Failures
from fluxburst.reconcile.terminate import Terminator

_log = logging.getLogger(__name__)

_ORPHAN = "it is in no record"


class Orphans:
    """Terminates bursts that no ledger has, for one client.

    Args:
        store: The client's store.
        assigner: Reassigns a job of ours to the burst that runs it.
        drainer: Drains its bursts.
        terminator: Terminates its bursts.
        failures: Processes failures of bursts and plugins.
    """

    def __init__(
        self,
        store: BurstStore,
        assigner: Assigner,
        drainer: Drainer,
        terminator: Terminator,
        failures: Failures,
    ) -> None:
        self._store = store
        self._assigner = assigner
        self._drainer = drainer
        self._terminator = terminator
        self._failures = failures

    def terminate(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Terminate an existing burst under our name that no ledger has.

        The first step is a record of it, so this waits until the ledger is writable.
        """
        name = burst.name
        if self._store.ledger.entry(name) is not None:  # it ended, but still exists
            self._terminator.end_again(plugin, burst)
            return
        if self._store.ledger.unwritable:
            return
        what = "burst %s is not in the ledger; terminating it"
        _log.warning(what, burst.name, extra={"burst": burst.name, "plugin": plugin.name})
        burst = self._bounded(plugin, burst)
        jobs = self._assigner.adopt(plugin, burst)
        degraded = burst.state is BurstState.FAILED and burst.exit_code is None
        state = BurstState.STARTING if degraded else burst.state
        self._store.request(replace(burst, jobs=jobs))
        recorded = self._store.record(plugin, replace(burst, jobs=jobs, state=state))
        self._store.created([recorded])
        if degraded:
            self._failures.degraded(plugin, recorded)
            return
        if not (burst.isolated and jobs):  # a job held here runs in it
            self._drainer.drain(recorded, _ORPHAN, EndReason.NOT_RECORDED)

    def _bounded(self, plugin: BurstPlugin, burst: Burst) -> Burst:
        """Return a burst that no ledger has, with its plugin's plausible facts."""
        first = min((e.requested for e in self._store.ledger.entries()), default=math.inf)
        try:
            return bounded(burst, plugin.node_types(), min(first, self._store.now()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            self._failures.cannot_ask(plugin, as_burst_error(error, plugin.name, burst.name))
            return Burst(burst.name, plugin.name, "", 0, state=burst.state)


def bounded(burst: Burst, types: Iterable[NodeType], began: float) -> Burst:
    """Return a burst that no ledger has, with its plausible facts.

    Args:
        burst: Its plugin's description.
        types: The plugin's node types: they give its price, which is 0 for an unknown type.
        began: The earliest time that it can have cost money, in seconds since the epoch.

    Raises:
        BurstError: if it has more nodes than its plugin ever supplies.
    """
    kind = next((one for one in types if one.name == burst.node_type), None)
    at_most = len(burst.hostnames) if kind is None else kind.max_nodes
    if at_most is not None and burst.nodes > at_most:
        raise BurstError(
            f"its plugin reports {counted(burst.nodes, 'node')} of type {burst.node_type!r}, but "
            f"no ledger has it: at most {at_most} are possible",
            plugin=burst.plugin,
            burst=burst.name,
        )
    since = None if burst.since is None else max(burst.since, began)
    return replace(burst, price=0.0 if kind is None else kind.price, since=since)
