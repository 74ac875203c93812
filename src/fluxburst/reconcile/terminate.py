"""Terminates bursts: drained first if jobs still run, then deleted, then settled.

A burst's termination is recorded before its first step, and stays recorded until its
plugin reports it gone, however often that takes. :mod:`fluxburst.reconcile.doubts` knows
the bursts that their plugin lists after that.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from fluxburst.errors import (
    BurstError,
    BurstErrors,
    FluxburstError,
    PatienceError,
    RequestError,
)
from fluxburst.formats.fluid import format_f58
from fluxburst.model.burst import LEAVING_STATES, LIVE_STATES, Burst, BurstState, EndReason
from fluxburst.planning.setbacks import Starts
from fluxburst.plugin.adapter import provider_of
from fluxburst.plugin.base import BurstPlugin
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import is_ours, is_placeholder
from fluxburst.reconcile.doubts import THERE_AGAIN, Doubts
from fluxburst.reconcile.drain import Drainer
from fluxburst.reconcile.inventory import listed_by
from fluxburst.reconcile.shared import Shared
from fluxburst.reconcile.vetting import Ownership
from fluxburst.reconcile.workers import (
    Answer,
    Call,
    Done,
    Failed,
    TimedOut,
    names_of,
)

RETRY_SECONDS, RETRY_SECONDS_AT_MOST = 5.0, 300.0
"""The pause after a second failed deletion; doubled from then on, up to a maximum."""

_log = logging.getLogger(__name__)


class Terminator:
    """Terminates bursts for one client.

    Args:
        shared: What the parts of a client share.
        ownership: Decides whose bursts plugins list.
        assigner: Releases its jobs.
        drainer: Drains its bursts.

    Attributes:
        gone: The bursts that ended since this was last emptied.
        errors: Failures since this was last emptied.
    """

    def __init__(
        self, shared: Shared, ownership: Ownership, assigner: Assigner, drainer: Drainer
    ) -> None:
        self._hooks = shared.hooks
        self._plugins = shared.plugins
        self._drainer = drainer
        self._store = shared.store
        self._ownership = ownership
        self._assigner = assigner
        self._workers = shared.workers
        self._shared = shared
        self._failures: Counter[str] = Counter()
        self._retry_at: dict[str, float] = {}
        self._doubts = Doubts(shared.store, drainer)
        self.gone: list[Burst] = []
        self.errors: list[FluxburstError] = []

    # --- on demand -------------------------------------------------------------------------

    def terminate(self, names: Collection[str] | None) -> tuple[list[Burst], list[FluxburstError]]:
        """Terminate bursts: all, or the named ones; return those that are gone, and the failures.

        Raises:
            RequestError: if a name belongs to no burst.
            BurstErrors: if that is unknown because a plugin could not be asked.
        """
        self.gone, self.errors = [], []
        chosen = self._chosen(names)
        busy: list[Burst] = []
        for plugin_name, bursts in chosen.items():
            with_jobs = [burst for burst in bursts if self._drainer.why_busy(burst)]
            busy += [self._drainer.drain(b, "", EndReason.ON_DEMAND) for b in with_jobs]
            free = [burst for burst in bursts if burst not in with_jobs]
            if free or (names is None and not with_jobs):
                everything = names is None and not with_jobs
                plugin = self._plugins[plugin_name]
                self._start(plugin, free, everything=everything, end_reason=EndReason.ON_DEMAND)
        self._end_drained(busy)
        self._workers.wait(math.inf)
        for plugin_name, bursts in chosen.items():
            self._verify_claimed(self._plugins[plugin_name], names_of(bursts))
        gone, errors = self.gone, self.errors
        self.gone, self.errors = [], []
        return gone, errors

    def _end_drained(self, busy: Sequence[Burst]) -> None:
        """Have drained bursts deleted, each once no job runs on it; the others are kept."""

        def is_free(burst: Burst) -> None:
            self._start(self._plugins[burst.plugin], [burst], everything=False)

        def meanwhile() -> None:
            self._workers.wait(0)

        for error in self._drainer.wait_for_jobs(busy, is_free, meanwhile):
            self.errors.append(error)
            self._hooks.phase_failed("unburst", self._plugins[error.plugin], error)

    def _chosen(self, names: Collection[str] | None) -> dict[str, list[Burst]]:
        """Return the bursts to terminate, by plugin."""
        chosen: dict[str, list[Burst]] = {}
        for plugin in self._plugins.values():
            live = {n: b for n, b in plugin.bursts.items() if b.state in LIVE_STATES}
            # Any code may write into a plugin's bursts; the ledger, and names, decide.
            known = {n: b for n, b in live.items() if is_ours(self._store.ledger, plugin, n)}
            for name in self._listed(plugin) or ():
                known.setdefault(name, Burst(name, plugin.name, "", 0))
            wanted = [b for n, b in known.items() if names is None or n in names]
            chosen[plugin.name] = [self._doubts.reopen(plugin, burst) for burst in wanted]
        found = {burst.name for bursts in chosen.values() for burst in bursts}
        unknown = sorted(set(names or ()) - found)
        if unknown and self.errors:  # it may belong to a plugin that could not be asked
            raise BurstErrors(self.errors)
        if unknown:
            raise RequestError(f"there is no burst {', '.join(map(self._unknown, unknown))}")
        return chosen

    def _unknown(self, name: str) -> str:
        """Describe a name that no burst of ours has, and who lists it nevertheless."""
        listing = [p for p, names in self._ownership.strangers.items() if name in names]
        if not listing:
            return repr(name)
        return (
            f"{name!r} of this instance ({listing[0]} lists it, but it belongs to others: "
            "terminate it where it was created, or at the provider)"
        )

    def _listed(self, plugin: BurstPlugin) -> Collection[str] | None:
        """Return which bursts of ours a plugin lists; None, and an error, if it cannot tell."""
        return listed_by(
            plugin,
            self._ownership,
            self._workers,
            self._shared.policy.timeouts.list,
            lambda error: self.errors.append(error),
        )

    # --- bursts listed although their plugin reported them gone ----------------------------

    def end_again(self, plugin: BurstPlugin, found: Burst) -> None:
        """Terminate a burst that its plugin lists although the ledger has its end."""
        burst = self._doubts.reopen(plugin, found)
        if self._doubts.is_doubted(burst.name):
            self._contradict(plugin, burst)
        else:
            extra = {"burst": burst.name, "plugin": plugin.name}
            _log.warning("burst %s: %s: terminating it", burst.name, THERE_AGAIN, extra=extra)
        self.end(burst)

    def go_on(self, plugin: BurstPlugin, burst: Burst, *, listed: bool | None) -> None:
        """Continue terminating a burst.

        Args:
            plugin: Its plugin.
            burst: The burst, which is being terminated.
            listed: Whether its plugin lists it; None if unknown.
        """
        claimed = bool(self._doubts.claimed([burst.name]))
        if not listed and (claimed or (listed is False and self._doubts.is_doubted(burst.name))):
            self._confirm(plugin, [burst])
            return
        if claimed:
            self._contradict(plugin, burst)
        self.end(burst)

    def there_again(self, plugin: str, name: str) -> None:
        """Record that a listed burst exists, if the ledger has its end."""
        if plugin in self._plugins:
            self._doubts.reopen(self._plugins[plugin], Burst(name, plugin, "", 0))

    def _contradict(self, plugin: BurstPlugin, burst: Burst, *, again: bool = False) -> None:
        """Leave a burst alone for a while that is still listed; warn once, or ``again``."""
        self._back_off(burst.name)
        error = self._doubts.contradict(plugin.name, burst.name, again=again)
        if error is not None:
            self.errors.append(error)
            self._hooks.phase_failed("unburst", plugin, error)

    def _confirm(self, plugin: BurstPlugin, bursts: Sequence[Burst]) -> None:
        """Record the end of bursts that are no longer listed."""
        self._drainer.undrain(names_of(bursts))
        self._end_all(plugin, bursts, _NOT_LISTED)

    def _verify_claimed(self, plugin: BurstPlugin, names: Collection[str]) -> None:
        """Check on demand whether bursts are gone whose plugin is not believed."""
        claimed = self._doubts.claimed(names)
        if not claimed:
            return
        listed = self._listed(plugin) if provider_of(plugin).lists_bursts else ()
        if listed is None:
            return
        bursts = [self._store.known(Burst(name, plugin.name, "", 0)) for name in claimed]
        self._confirm(plugin, [burst for burst in bursts if burst.name not in listed])
        for burst in bursts:
            if burst.name in listed:
                self._contradict(plugin, burst, again=True)  # a user who asks is told again

    # --- step by step ----------------------------------------------------------------------

    def end(self, burst: Burst, reason: str = "", end_reason: EndReason | None = None) -> None:
        """Have a burst deleted; it is settled when its plugin has answered.

        A burst with running jobs is only drained: the lease keeper ends it once they have ended.
        """
        plugin = self._store.plugin_of(burst)
        if plugin is None or burst.name in self._workers.in_flight:
            return
        if burst.state not in LEAVING_STATES and self._drainer.why_busy(burst):
            self._drainer.drain(burst, reason or burst.error, end_reason)
            return
        ending = replace(burst, state=BurstState.ENDING)
        self._store.record(plugin, ending, reason, end_reason=end_reason)
        if plugin.name in self._workers.stuck():
            return
        if self._store.now() >= self._retry_at.get(burst.name, -math.inf):
            self._start(plugin, [burst], everything=False)

    def _start(
        self,
        plugin: BurstPlugin,
        bursts: Sequence[Burst],
        *,
        everything: bool,
        end_reason: EndReason | None = None,
    ) -> None:
        live: dict[str, Burst] = {}
        for burst in bursts:
            entry = self._store.ledger.entry(burst.name)
            if entry is not None and entry.live:
                ending = replace(plugin.bursts.get(burst.name, burst), state=BurstState.ENDING)
                live[burst.name] = self._store.record(plugin, ending, end_reason=end_reason)
        plugin.bursts.update(live)  # in case observers changed it
        self._drainer.drain_nodes(live.values())

        def run() -> list[str]:
            return list(self._hooks.unburst_plugin(plugin, bursts))

        self._workers.start(
            Call(
                plugin.name,
                "delete()",
                self._shared.policy.timeouts.delete * max(1, len(bursts)),
                run,
                lambda answer: self._settle(plugin, bursts, answer, everything=everything),
                bursts=names_of(bursts),
            )
        )

    def _settle(
        self,
        plugin: BurstPlugin,
        bursts: Sequence[Burst],
        answer: Answer[list[str]],
        *,
        everything: bool,
    ) -> None:
        """Process a plugin's answer."""
        match answer:
            case Done(names):
                self._take_gone(plugin, bursts, set(names), everything=everything)
            case Failed(FluxburstError() as error):
                gone = {burst.name for burst in getattr(error, "bursts", ())}
                self._failed(plugin, bursts, error)
                self._take_gone(plugin, bursts, gone, everything=False)
            case Failed(error):
                raise error
            case TimedOut(why):
                self._on_timeout(plugin, bursts, why)

    def _take_gone(
        self, plugin: BurstPlugin, bursts: Sequence[Burst], gone: set[str], *, everything: bool
    ) -> None:
        """Record that bursts are gone, and release the jobs that waited for them.

        Args:
            plugin: Their plugin.
            bursts: The bursts to delete.
            gone: The names that it reports gone.
            everything: Whether these were all of its bursts, and nothing failed.
        """
        spared = [burst for burst in bursts if burst.name not in gone]
        gone -= self._doubts.claim(plugin, gone)
        # Before the end is recorded: after it, nothing would come back to them.
        self._drainer.undrain(gone)
        ended = self._end_all(plugin, [burst for burst in bursts if burst.name in gone])
        # A plugin that lists others' bursts was not asked to delete all of its own at once.
        others = self._ownership.strangers.get(plugin.name)
        emptied = everything and not spared and not others
        if emptied:
            self._end_placeholders(plugin)
        for burst in ended:
            if burst.isolated:
                self._release_lost(plugin, burst)
        waiting = self._assigner.waiting_for(plugin, None if emptied else names_of(ended))
        self._assigner.release(plugin, waiting, _TAKEN_DOWN)

    def _release_lost(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Release the job of a lost isolated burst; report if it is not started again."""
        jobs = self._assigner.waiting_for(plugin, {burst.name})
        starts = Starts(self._store.ledger, self._shared.policy.policy.starts)
        for job in jobs:
            if why := starts.why_not(job):
                last = f" [last: {burst.error}]" if burst.error else ""
                error = BurstError(f"job {format_f58(job)} {why}{last}", plugin=plugin.name)
                _log.warning("%s", error)
                self._hooks.phase_failed("run", plugin, error)
        self._assigner.release(plugin, jobs, burst.error or _TAKEN_DOWN)

    def _end_all(
        self, plugin: BurstPlugin, bursts: Sequence[Burst], reason: str = ""
    ) -> list[Burst]:
        """Record the end of bursts that are gone; return them."""
        ended = [self._ended(plugin, burst, reason) for burst in bursts]
        for burst in ended:
            self._failures.pop(burst.name, None)
            self._retry_at.pop(burst.name, None)
            self._doubts.forget(burst.name)
        self.gone += ended
        return ended

    def _ended(self, plugin: BurstPlugin, burst: Burst, reason: str) -> Burst:
        entry = self._store.ledger.entry(burst.name)
        if entry is None:  # no ledger had it, and it is gone
            return replace(plugin.bursts.get(burst.name, burst), state=BurstState.ENDED)
        if not entry.live:
            return entry.burst
        error = entry.burst.error
        state = BurstState.FAILED if error else BurstState.ENDED
        ended = replace(entry.burst, state=state)
        return self._store.record(plugin, ended, reason or entry.reason, leftover="")

    def _end_placeholders(self, plugin: BurstPlugin) -> None:
        """Record the end of requests to a plugin that does not name its bursts."""
        ledger = self._store.ledger
        for entry in ledger.live(plugin.name):
            if is_placeholder(entry.burst, plugin) and entry.burst.name not in plugin.bursts:
                ended = replace(entry.burst, state=BurstState.ENDED)
                ledger.record(ended, self._store.now(), "the plugin terminated everything")

    def _failed(self, plugin: BurstPlugin, bursts: Sequence[Burst], error: FluxburstError) -> None:
        """Note the error on the bursts that may still exist, and report it."""
        of = {getattr(one, "burst", ""): one for one in _each(error)}
        for burst in bursts:
            self._back_off(burst.name)
            known = plugin.bursts.get(burst.name)
            why = of.get(burst.name)
            if known is not None and why is not None and known.state in LIVE_STATES:
                self._store.record(plugin, known, leftover=str(why))
        self.errors.append(error)
        self._hooks.phase_failed("unburst", plugin, error)

    def _back_off(self, name: str) -> None:
        """Leave a burst alone for a while that could not be deleted, after the second time."""
        self._failures[name] += 1
        doubled = min(self._failures[name] - 2, 10)
        if doubled >= 0:
            pause = min(RETRY_SECONDS * 2**doubled, RETRY_SECONDS_AT_MOST)
            self._retry_at[name] = self._store.now() + pause

    def _on_timeout(self, plugin: BurstPlugin, bursts: Sequence[Burst], why: str) -> None:
        names = sorted(names_of(bursts))
        errors = [PatienceError(why, plugin=plugin.name, burst=name) for name in names]
        self._failed(plugin, bursts, BurstErrors(errors or [BurstError(why, plugin=plugin.name)]))


def _each(error: FluxburstError) -> Sequence[FluxburstError]:
    return error.errors if isinstance(error, BurstErrors) else [error]


_TAKEN_DOWN = "the burst that it waited for was terminated"
_NOT_LISTED = "its plugin no longer lists it"
