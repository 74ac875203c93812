"""The records of bursts: keeps plugins' own bursts and the ledger in step."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from fluxburst.config.policy import Breaking
from fluxburst.flux.protocol import Instance
from fluxburst.hooks.manager import Manager
from fluxburst.ledger import Breaker, Entry, Ledger, LedgerPlace
from fluxburst.model.burst import (
    COMING_STATES,
    LEAVING_STATES,
    LIVE_STATES,
    Burst,
    BurstState,
    EndReason,
    is_plain,
)
from fluxburst.model.job import Job
from fluxburst.planning.setbacks import failed
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin

REMEMBERED = 100
"""How many ended bursts a plugin still knows; the ledger knows all."""

_log = logging.getLogger(__name__)


class BurstStore:
    """The bursts of one client, as plugins and the ledger know them.

    Args:
        hooks: The client's hooks, whose observers learn of changes.
        plugins: The loaded plugins, by name; the client's own mapping, not a copy.
        instance: The instance, for its clock.
        place: Location of the ledger.

    Attributes:
        now: Returns the current time, in seconds since the epoch.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        place: LedgerPlace,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._place = place
        self.now = instance.now
        self._published: dict[str, dict[str, Burst]] = {}
        self._unpublished: list[tuple[Burst, Burst | None, str]] | None = None

    @functools.cached_property
    def ledger(self) -> Ledger:
        """The open ledger.

        Raises:
            LedgerError: if opening it fails.
        """
        return self._place.ledger

    @property
    def held(self) -> bool:
        """Whether this client holds the instance."""
        return self._place.held

    def load(self) -> None:
        """Give plugins their bursts from the ledger; changes nothing.

        Raises:
            LedgerError: if the ledger is unreadable.
        """
        live: dict[str, dict[str, Burst]] = {name: {} for name in self._plugins}
        for entry in self.ledger.live():
            if is_placeholder(entry.burst, self._plugins.get(entry.burst.plugin)):
                continue
            live.setdefault(entry.burst.plugin, {})[entry.burst.name] = entry.burst
        for name, plugin in self._plugins.items():
            told = self._published.setdefault(name, {})
            for burst in live[name].values():
                known_here = told.get(burst.name)
                reopened = known_here is not None and known_here.state not in LIVE_STATES
                if burst.name not in plugin.bursts or reopened:
                    plugin.bursts[burst.name] = told[burst.name] = burst
            for known in list(plugin.bursts.values()):
                if known.state in LIVE_STATES and known.name not in live[name]:
                    self._take_over_end(plugin, known)

    def _take_over_end(self, plugin: BurstPlugin, known: Burst) -> None:
        """Process a burst's end that another client has recorded."""
        entry = self.ledger.entry(known.name)
        if entry is not None:
            plugin.bursts[known.name] = entry.burst
            self._published.setdefault(plugin.name, {})[known.name] = entry.burst
            self._tell(entry.burst, known, entry.reason)

    def hold(self, *, starts_without: bool = False, without_lock: bool = False) -> None:
        """Hold the instance, before any change.

        Args:
            starts_without: Even if the ledger is not writable at the start.
            without_lock: Even if there is no lock, and none can be made.

        Raises:
            HeldError: if another client holds it.
            LedgerError: if the ledger is not writable.
        """
        self._forget_ledger()
        self._place.hold(starts_without=starts_without, without_lock=without_lock)
        self.ledger.catch_up()
        self.load()

    def close(self) -> None:
        """Close the ledger, and release the instance."""
        self._forget_ledger()
        self._place.close()

    def _forget_ledger(self) -> None:
        """Forget the open ledger, since its place may close it."""
        vars(self).pop("ledger", None)

    # --- recording -------------------------------------------------------------------------

    def request(self, burst: Burst, jobs: Iterable[Job] = ()) -> Entry:
        """Record the intent to provision a burst, and whose money it costs."""
        users = {job.user for job in jobs}
        queues = {job.mark.queue if job.mark and job.mark.queue else job.queue for job in jobs}
        user = users.pop() if len(users) == 1 else None
        queue = queues.pop() if len(queues) == 1 else ""
        return self.ledger.request(burst, self.now(), user, queue)

    def record(
        self,
        plugin: BurstPlugin,
        burst: Burst,
        reason: str = "",
        *,
        end_reason: EndReason | None = None,
        leftover: str | None = None,
    ) -> Burst:
        """Record a burst's new state; return it as recorded.

        Its request and its price stay, whatever its plugin says; so do its job's end, its lease
        if the plugin does not mention it, and the reason for its termination, whatever
        late answers say.

        Args:
            plugin: Its plugin.
            burst: The burst in its new state.
            reason: The reason for its state, for people.
            end_reason: Why it is terminated; the first recorded reason stays.
            leftover: Why its termination failed; None for the recorded reason.
        """
        entry = self.ledger.entry(burst.name) or self.request(burst)
        known = entry.burst
        burst = replace(
            _since_it_costs(entry, _as_believed(entry, burst)),
            end_reason=_end_reason(known, burst, end_reason),
            leftover=known.leftover if leftover is None else leftover,
        )
        before = self._published.setdefault(plugin.name, {}).get(burst.name)
        recorded = burst
        if before is None or replace(burst, since=before.since) != before or reason:
            recorded = self.ledger.record(burst, self.now(), reason).burst
        plugin.bursts[burst.name] = recorded
        self._published[plugin.name][burst.name] = recorded
        if recorded.state is BurstState.READY and (
            before is None or before.state != recorded.state
        ):
            self._close_breaker(recorded)
        if recorded != before:
            self._tell(recorded, before, reason)
        return recorded

    def _close_breaker(self, burst: Burst) -> None:
        """Reopen a node type whose burst came up.

        For an isolated burst, failures count until its job has ended: it may still be lost.
        """
        key = burst.plugin, burst.node_type
        known = self.ledger.breakers().get(key, Breaker(*key))
        counts_on = burst.isolated and burst.exit_code is None
        self.ledger.set_breaker(replace(known, retry_at=None) if counts_on else Breaker(*key))

    def count_failure(
        self, burst: Burst, why: str, policy: Breaking, *, final: bool = False
    ) -> None:
        """Count a failure against a burst's node type; a ``final`` one opens its breaker."""
        key = burst.plugin, burst.node_type
        breaker = self.ledger.breakers().get(key, Breaker(*key))
        self.ledger.set_breaker(failed(breaker, policy, self.now(), why, final=final))

    def remark(self, name: str, text: str) -> None:
        """Record details of a burst whose state stays the same, and tell observers."""
        entry = self.ledger.remark(name, self.now(), text)
        plugin = self.plugin_of(entry.burst)
        if plugin is not None:
            self.record(plugin, replace(entry.burst, error=text))

    def reopen(self, plugin: BurstPlugin, burst: Burst, reason: str) -> Burst:
        """Record that an ended burst still exists, and is being terminated again.

        Hosts that belong to another burst by now are no longer its own. If it is unknown since
        when it costs money, the time of its request counts.
        """
        entry = self.ledger.entry(burst.name)
        assert entry is not None
        others = {host for other in self.ledger.live() for host in other.burst.hostnames}
        hosts = tuple(host for host in burst.hostnames if host not in others)
        since = entry.burst.since
        if since is None:
            since = max(entry.requested, burst.since or 0.0)
        there = replace(burst, hostnames=hosts, since=since)
        reopened = self.ledger.reopen(there, self.now(), reason).burst
        plugin.bursts[burst.name] = reopened
        self._published.setdefault(plugin.name, {})[burst.name] = reopened
        self._tell(reopened, entry.burst, reason)
        return reopened

    def publish(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Tell a plugin, and observers, of a burst whose intent was recorded."""
        plugin.bursts[burst.name] = burst
        self._published.setdefault(plugin.name, {})[burst.name] = burst
        self._tell(burst, None, "")

    def created(self, bursts: Iterable[Burst]) -> None:
        """Record that a plugin has answered for bursts: they exist, or are on their way."""
        for burst in bursts:
            self.ledger.set_created(burst.name, self.now())

    def save_all(self, plugin: BurstPlugin, answered: Collection[str] = ()) -> None:
        """Record a plugin's own changes of its bursts.

        Any code may write into a plugin's bursts. A burst that is neither in the ledger, nor has a
        name of ours, nor is among ``answered``, is dropped.
        """
        told = self._published.setdefault(plugin.name, {})
        for name, burst in list(plugin.bursts.items()):
            if burst == told.get(name):
                continue
            if name in answered:
                self.record(plugin, burst)
            elif is_ours(self.ledger, plugin, name):
                # The ownership of the hosts was not checked: the known ones stay.
                hosts = self.known(replace(burst, hostnames=())).hostnames
                self.record(plugin, replace(burst, hostnames=hosts))
            else:
                what = "burst %s of plugin %s is not ours: leaving it alone"
                _log.warning(what, name, plugin.name)
                plugin.bursts.pop(name, None)
        self._forget_ended(plugin)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Record the following in one transaction; observers are told once it is durable."""
        untold: list[tuple[Burst, Burst | None, str]] = []
        self._unpublished = untold
        try:
            with self.ledger.transaction():
                yield
        except BaseException:
            self._published.clear()  # plugins' bursts are recorded anew
            raise
        finally:
            self._unpublished = None
        for burst, before, reason in untold:
            self._tell(burst, before, reason)

    def _tell(self, burst: Burst, before: Burst | None, reason: str) -> None:
        if self._unpublished is not None:
            self._unpublished.append((burst, before, reason))
            return
        why = reason or burst.problem
        extra = {"burst": burst.name, "plugin": burst.plugin, "jobs": burst.jobs}
        _log.info("burst %s: %s", burst.name, f"{burst.state.value} {why}".strip(), extra=extra)
        self._hooks.burst_changed(burst, before)

    def _forget_ended(self, plugin: BurstPlugin) -> None:
        """Limit how many ended bursts a plugin knows."""
        ended = [name for name, burst in plugin.bursts.items() if burst.state not in LIVE_STATES]
        for name in ended[:-REMEMBERED]:
            plugin.bursts.pop(name, None)
            self._published.get(plugin.name, {}).pop(name, None)

    # --- reading ---------------------------------------------------------------------------

    def plugin_of(self, burst: Burst) -> BurstPlugin | None:
        """Return the loaded plugin of a burst; None if it is not loaded."""
        return self._plugins.get(burst.plugin)

    def known(self, burst: Burst) -> Burst:
        """Return the record of a burst, whatever its plugin says; without one, the burst itself."""
        entry = self.ledger.entry(burst.name)
        return burst if entry is None else entry.burst

    def ranks_of(self, bursts: Collection[Burst]) -> dict[str, list[int]]:
        """Return the ranks of bursts' nodes in the instance, by burst."""
        of = {hostname: burst.name for burst in bursts for hostname in burst.hostnames}
        ranks: dict[str, list[int]] = {burst.name: [] for burst in bursts}
        for node in self._instance.nodes() if of else ():
            if node.hostname in of:
                ranks[of[node.hostname]].append(node.rank)
        return ranks


def is_placeholder(burst: Burst, plugin: BurstPlugin | None) -> bool:
    """Whether a burst represents a request to a plugin that sizes its bursts itself.

    Such a plugin knows no burst of that name. A plugin that is not loaded may be of that kind.
    """
    if plugin is None:
        return not (burst.nodes or burst.node_type)
    return provider_of(plugin).is_placeholder(burst)


def is_ours(ledger: Ledger, plugin: BurstPlugin, name: str) -> bool:
    """Whether a name belongs to a burst of this plugin and this instance.

    That is a name in the ledger, in any form, or one in the form reserved for this plugin and
    instance. Once such a burst has ended, a name common to all instances may be another's.
    If a plugin cannot identify its instance, no name is known to be ours by its form.
    """
    entry = ledger.entry(name)
    if entry is not None and (entry.live or not is_plain(name, plugin.name)):
        return entry.burst.plugin == plugin.name
    try:
        return plugin.owns(name)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - reported when the plugin is asked what exists
        return False


def _billed_nodes(entry: Entry, burst: Burst) -> int:
    """Return how many nodes of a burst cost money: no more than recorded; 0 for unknown.

    Once it has been up, it is also no fewer: the ledger has one number of nodes for all of its
    life, and the nodes that it loses have cost money.
    """
    most = entry.burst.nodes or burst.nodes
    return most if entry.ready is not None else min(burst.nodes, most)


def _end_reason(known: Burst, burst: Burst, end_reason: EndReason | None) -> EndReason | None:
    """Return why a burst is terminated: the first recorded reason stays."""
    goes = burst.state in LEAVING_STATES or burst.state is BurstState.FAILED
    failed = EndReason.FAILED if goes and burst.error else None
    return known.end_reason or end_reason or failed


def _as_believed(entry: Entry, burst: Burst) -> Burst:
    """Return a burst with the facts that its plugin is believed about: only its state."""
    known = entry.burst
    burst = replace(burst, nodes=_billed_nodes(entry, burst))
    late = known.state in LEAVING_STATES and burst.state in COMING_STATES | {BurstState.READY}
    ready = burst.state is BurstState.READY and not known.isolated
    burst = replace(
        burst,
        joined=(burst.joined or burst.nodes) if ready else burst.joined,
        jobs=known.jobs,
        price=known.price,
        lease_until=known.lease_until if burst.lease_until is None else burst.lease_until,
        error=known.error if late else burst.error,
        waiting_for="" if late or burst.state not in COMING_STATES else burst.waiting_for,
        isolated=known.isolated,
        exit_code=known.exit_code if burst.exit_code is None else burst.exit_code,
        output=burst.output or known.output,
    )
    if known.isolated:
        return burst
    return replace(burst, exit_code=None, output="")  # whatever was written into the plugin's


def _since_it_costs(entry: Entry, burst: Burst) -> Burst:
    """Return a burst with the start of its costs: not before its request.

    Once it is known, it never becomes later: what was billed stays billed, even if the provider
    starts the machines again. Only the time of the request, which counts while the provider
    reports no other, is corrected until the burst has come up.
    """
    known = entry.burst
    costless = {BurstState.REQUESTED}
    if entry.created is not None and entry.started is None:
        costless |= LEAVING_STATES  # it ends without having left its provider's queue
    if burst.since is None:
        # If the provider does not report when costs began, they began with the request.
        costs = burst.state in LIVE_STATES - costless
        since = entry.requested if costs and known.since is None else known.since
        return replace(burst, since=since)
    if burst.since < entry.requested:
        # It costs nothing before its request, unless it was found without one.
        asked = entry.requested if known.since is None else known.since
        return replace(burst, since=max(burst.since, asked))
    is_assumed = known.since == entry.requested and known.state in COMING_STATES
    if known.since is None or is_assumed:
        return burst
    return replace(burst, since=min(burst.since, known.since))
