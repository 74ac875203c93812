"""Looking at what is there, and mending what is not as it was left.

What plugins list is compared with the ledger and with the instance's nodes. A plugin that cannot be
asked is left alone, and nothing of its is presumed gone. An answer is never held against a burst
that has changed since it was asked for.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fluxburst.config.policy import Policy
from fluxburst.errors import BurstError, FluxburstError, PatienceError
from fluxburst.flux.protocol import Instance
from fluxburst.formats.units import counted, format_duration
from fluxburst.hooks.manager import Manager
from fluxburst.ledger import Breaker, Entry, Usage
from fluxburst.model.burst import COMING_STATES, LEAVING_STATES, LIVE_STATES, Burst, BurstState
from fluxburst.planning.circuit_breakers import failed
from fluxburst.plugin.base import BurstPlugin, as_burst_error
from fluxburst.plugin.validation import check_adopted, check_burst, check_names
from fluxburst.provider.isolation import UNREAD, end_note, without_hope
from fluxburst.reconcile.assign import Assigner
from fluxburst.reconcile.burst_store import BurstStore
from fluxburst.reconcile.orphans import bounded
from fluxburst.reconcile.outliving import Outliving
from fluxburst.reconcile.ownership import Ownership
from fluxburst.reconcile.queue_mirror import PendingQueue
from fluxburst.reconcile.remaining_life import RemainingLife
from fluxburst.reconcile.terminate import Terminator
from fluxburst.reconcile.vetting import Vetting
from fluxburst.reconcile.workers import Answer, Call, PluginWorkers

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Seen:
    """What a plugin answered.

    Attributes:
        there: The bursts that exist, by name, with what the plugin says of them (None: only that
            they exist); None where it cannot tell.
        refreshed: Bursts that were coming, as they are now.
        refused: Why bursts among these will not come after all, by name.
        complete: Whether what is not there is known to be gone, and not only not listed yet.
        changed: The bursts that have changed since it was asked: the answer says nothing of them.
        wrong: What was answered of bursts that cannot be.
    """

    there: Mapping[str, Burst | None] | None
    refreshed: Sequence[Burst]
    complete: bool = False
    changed: frozenset[str] = frozenset()
    wrong: Sequence[BurstError] = ()
    refused: Mapping[str, BurstError] = field(default_factory=dict)


class Observer:
    """Looks at plugins and the instance for one client.

    Args:
        hooks: The client's hooks.
        plugins: The loaded plugins, by name.
        instance: The instance.
        backlog: The client's mirror of its pending jobs.
        store: Its store.
        ownership: What tells whose the bursts are that plugins list.
        vetting: What vets what they answer.
        assigner: What takes its jobs back.
        terminator: What takes its bursts down.
        workers: The threads of its plugins.
        policy: Its policy.
        spans: How long its bursts live.
    """

    def __init__(
        self,
        hooks: Manager,
        plugins: Mapping[str, BurstPlugin],
        instance: Instance,
        backlog: PendingQueue,
        store: BurstStore,
        ownership: Ownership,
        vetting: Vetting,
        assigner: Assigner,
        terminator: Terminator,
        workers: PluginWorkers,
        policy: Policy,
        spans: RemainingLife,
    ) -> None:
        self._hooks = hooks
        self._plugins = plugins
        self._instance = instance
        self._backlog = backlog
        self._store = store
        self._ownership = ownership
        self._vetting = vetting
        self._assigner = assigner
        self._terminator = terminator
        self._workers = workers
        self.policy = policy
        self._outliving = Outliving(backlog, spans)
        self._answering: set[str] = set()
        self.errors: list[FluxburstError] = []

    # --- what a pass asks for --------------------------------------------------------------

    def sync(self, patience: float, *, repair: bool) -> None:
        """Ask each plugin what is there, and take in what is answered within ``patience`` seconds.

        What is found is adopted, and with ``mend``, the difference to the record is mended.
        """
        for plugin in self._plugins.values():
            if plugin.name in self._workers.stuck():
                self._cannot(plugin, PatienceError(self._workers.stuck()[plugin.name]))
            else:
                self._ask(plugin, all_of_it=True, then=self._repair if repair else self._adopt)
        self._workers.wait(patience)
        self.join()

    def refresh(self, patience: float) -> None:
        """Look at what has become of the bursts that are coming."""
        for plugin in self._plugins.values():
            if (
                any(map(_changes, plugin.bursts.values()))
                and plugin.name not in self._workers.stuck()
            ):
                self._ask(plugin, all_of_it=False, then=self._take_refreshed)
        self._workers.wait(patience)
        self.join()

    def join(self) -> None:
        """See on the instance's nodes which bursts have joined, and which were too slow."""
        coming = [e for e in self._store.live() if e.burst.state in COMING_STATES]
        up = {node.hostname for node in self._instance.nodes() if node.up} if coming else set()
        for entry in coming:
            plugin = self._store.plugin_of(entry.burst)
            if plugin is None or entry.burst.name in self._workers.in_flight:
                continue
            burst = _joined(plugin.bursts.get(entry.burst.name, entry.burst), up)
            if why := self._waits_too_long(entry, burst):
                late = BurstError(why, plugin=plugin.name, burst=burst.name)
                self._refused(plugin, replace(burst, error=why), late)
            elif burst.state in COMING_STATES and (why := self._too_slow(entry)):
                self._failed(plugin, replace(burst, error=why))
            elif burst != entry.burst:
                self._store.record(plugin, burst)

    # --- asking ----------------------------------------------------------------------------

    def _ask(
        self, plugin: BurstPlugin, *, all_of_it: bool, then: Callable[[BurstPlugin, _Seen], None]
    ) -> None:
        coming = [
            burst
            for burst in list(plugin.bursts.values())
            if _changes(burst) and burst.name not in self._workers.in_flight
        ]
        before = dict(plugin.bursts)

        def run() -> _Seen:
            seen = _what_is_there(plugin) if all_of_it else _Seen(None, ())
            refused: dict[str, BurstError] = {}
            refreshed = [_refreshed(plugin, burst, refused) for burst in coming]
            return replace(seen, refreshed=refreshed, refused=refused)

        def on_done(answer: Answer) -> None:
            error = answer.exception()
            if error is None:
                self._answering.add(plugin.name)
                now = plugin.bursts
                changed = {n for n in {*now, *before} if now.get(n) != before.get(n)}
                seen = self._vetted(plugin, answer.result())
                then(plugin, replace(seen, changed=frozenset(changed)))
            elif isinstance(error, Exception):  # a provider's library may raise anything
                self._answering.discard(plugin.name)
                self._cannot(plugin, as_burst_error(error, plugin.name))
            else:
                raise error

        timeout = self.policy.timeouts.list
        what = "list_bursts()" if all_of_it else "refresh()"
        self._workers.start(
            Call(plugin.name, what, timeout, run, on_done, lambda why: self._silent(plugin, why))
        )

    def _vetted(self, plugin: BurstPlugin, seen: _Seen) -> _Seen:
        """Return what is ours of what a plugin answered, as far as it can be; say what cannot."""
        wrong = list(seen.wrong)
        refreshed = []
        for burst in seen.refreshed:
            known = self._store.known(burst)
            try:
                now = self._vetting.vetted(burst, known, "refresh()")
                refreshed.append(_failed_if_leaving(now, known))
            except BurstError as error:
                refreshed.append(replace(known, error=str(error)))
        there = None
        if seen.there is not None:
            ours = self._ownership.ours(plugin, seen.there)
            there = {n: self._found(plugin, b, wrong) for n, b in seen.there.items() if n in ours}
            wrong = [error for error in wrong if error.burst in ours]
        for problem in wrong:
            self._cannot(plugin, problem)
        return replace(seen, there=there, refreshed=refreshed)

    def _found(
        self, plugin: BurstPlugin, found: Burst | None, wrong: list[BurstError]
    ) -> Burst | None:
        """Return what a plugin says of a burst that it found; None where that cannot be."""
        if found is None:
            return None
        known = self._store.known(Burst(found.name, plugin.name, "", 0))
        try:
            return self._vetting.vetted(found, known, "adopt()")
        except BurstError as error:
            wrong.append(error)
            return None

    def _silent(self, plugin: BurstPlugin, why: str) -> None:
        self._answering.discard(plugin.name)
        self._cannot(plugin, PatienceError(why, plugin=plugin.name))

    def _cannot(self, plugin: BurstPlugin, error: BurstError) -> None:
        """Say that a plugin cannot be asked: nothing of its is presumed gone."""
        error.plugin = error.plugin or plugin.name
        self.errors.append(error)
        self._hooks.phase_failed("adopt", plugin, error)

    # --- what was answered -----------------------------------------------------------------

    def _take_refreshed(self, plugin: BurstPlugin, seen: _Seen) -> None:
        for burst in seen.refreshed:
            known = plugin.bursts.get(burst.name)
            if known is None or burst.name in seen.changed:
                continue
            if known.exit_code is not None:  # how its job ended is settled
                burst = replace(burst, exit_code=known.exit_code, error=known.error)
            if burst.name in seen.refused and burst.exit_code is None:
                self._refused(plugin, burst, seen.refused[burst.name])
            elif burst.exit_code is not None:
                self._ended_there(plugin, burst)
            elif burst == known:
                continue
            elif burst.state is BurstState.FAILED:
                self._broken(plugin, burst)
            else:
                self._store.record(plugin, burst)

    def _refused(self, plugin: BurstPlugin, burst: Burst, error: BurstError) -> None:
        """End a burst that its provider will not supply after all; others are offered its jobs."""
        self._count_failure(burst, final=True)
        self._end_it(plugin, burst)
        self.errors.append(error)
        self._hooks.phase_failed("run", plugin, error)

    def _adopt(self, plugin: BurstPlugin, seen: _Seen) -> None:
        """Let a plugin know of what is there, and change nothing."""
        told = {name: b for name, b in (seen.there or {}).items() if b is not None}
        for name, burst in told.items():
            plugin.bursts.setdefault(name, burst)

    def _repair(self, plugin: BurstPlugin, seen: _Seen) -> None:
        self._assigner.forget_free(plugin)
        self._take_refreshed(plugin, seen)
        entries = {entry.burst.name: entry for entry in self._store.live(plugin.name)}
        untouched = self._workers.in_flight | seen.changed
        for name, entry in entries.items():
            if name not in untouched and name in plugin.bursts:
                self._compare(plugin, entry, seen)
        for name, found in (seen.there or {}).items():
            if name not in entries and name not in untouched:
                self._orphan(plugin, found or Burst(name, plugin.name, "", 0))
        if seen.there is not None:
            self._free_the_stranded(plugin)

    def _compare(self, plugin: BurstPlugin, entry: Entry, seen: _Seen) -> None:
        """Mend what the ledger says of one burst, or what is there of it."""
        burst = plugin.bursts.get(entry.burst.name, entry.burst)
        name = burst.name
        found = (seen.there or {}).get(name)
        found = None if found is None else _failed_if_leaving(found, burst)
        if burst.state is BurstState.ENDING:
            listed = None if seen.there is None else name in seen.there
            self._terminator.go_on(plugin, burst, listed=listed)
        elif burst.exit_code is not None:
            self._ended_there(plugin, burst)
        elif burst.isolated and not self._backlog.waited_for(plugin.name, name):
            self._terminator.end(burst, _NOT_HELD)
        elif burst.state not in LIVE_STATES - {BurstState.DRAINING}:
            return  # whoever drains it ends it
        elif found is not None and found.state is BurstState.FAILED:
            if not _looks_twice(plugin, burst):
                self._broken(plugin, replace(burst, hostnames=found.hostnames, error=found.error))
        elif seen.there is not None and burst.name in seen.there:
            self._adopt_recorded(plugin, entry, burst, found)
        elif entry.created is None:
            self._end_it(plugin, replace(burst, error=_NEVER_ANSWERED))
        elif self._has_vanished(burst, seen):
            self._failed(plugin, replace(burst, error=_VANISHED))

    def _has_vanished(self, burst: Burst, seen: _Seen) -> bool:
        """Whether a burst is gone: not listed, though it should be, and no node of it up."""
        if seen.there is None or (burst.state in COMING_STATES and not seen.complete):
            return False
        if _looks_twice(self._plugins[burst.plugin], burst):
            return False
        up = {node.hostname for node in self._instance.nodes() if node.up}
        return up.isdisjoint(burst.hostnames)

    def _adopt_recorded(
        self, plugin: BurstPlugin, entry: Entry, burst: Burst, found: Burst | None
    ) -> None:
        """Take in a burst that is there: also one of which only the intent was recorded."""
        if entry.created is None:
            _log.info("burst %s: was created, and is adopted", burst.name)
        if found is None:
            state = BurstState.STARTING if entry.created is None else burst.state
            now = replace(burst, state=state)
        else:
            now = replace(
                burst,
                state=found.state,
                nodes=found.nodes or burst.nodes,
                hostnames=found.hostnames or burst.hostnames,
                error=found.error,
                since=burst.since if found.since is None else found.since,
                exit_code=found.exit_code,
                output=found.output or burst.output,
            )
        if now.exit_code is not None:
            self._ended_there(plugin, now)
        elif now.nodes < burst.nodes:
            few = f"of its {counted(burst.nodes, 'node')}, {now.nodes} can be found there"
            self._broken(plugin, replace(now, error=few))
        elif now != burst:
            self._store.record(plugin, now)
        self._store.created([burst])

    def _orphan(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Take down what is there under our name, and is in no record.

        That begins with a record of it, and so waits until there can be one.
        """
        name = burst.name
        if self._store.ledger.entry(name) is not None:  # it ended, and is there all the same
            self._terminator.end_again(plugin, burst)
            return
        if self._store.ledger.unwritable:
            return
        _log.warning("burst %s: nobody's, is taken down", burst.name, extra={"burst": burst.name})
        burst = self._bounded(plugin, burst)
        jobs = self._assigner.adopt(burst) if burst.isolated else ()
        broken = burst.state is BurstState.FAILED and burst.exit_code is None
        state = BurstState.STARTING if broken else burst.state
        self._store.request(replace(burst, jobs=jobs))
        recorded = self._store.record(plugin, replace(burst, jobs=jobs, state=state))
        self._store.created([recorded])
        if broken:
            self._broken(plugin, recorded)
            return
        entry = self._store.ledger.entry(name)
        assert entry is not None
        if not (burst.isolated and jobs):  # a job that is held here runs in it
            self._terminator.drain(entry, _ORPHAN)

    def _bounded(self, plugin: BurstPlugin, burst: Burst) -> Burst:
        """Return a burst that is in no record, as far as its plugin is believed of it."""
        first = min((e.requested for e in self._store.ledger.entries()), default=math.inf)
        try:
            return bounded(burst, plugin.node_types(), min(first, self._store.now()))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
            self._cannot(plugin, as_burst_error(error, plugin.name, burst.name))
            return Burst(burst.name, plugin.name, "", 0, state=burst.state)

    def _free_the_stranded(self, plugin: BurstPlugin) -> None:
        """Free the jobs that wait for bursts that are not there any more."""
        alive = {entry.burst.name for entry in self._store.live(plugin.name)}
        stranded = [
            job.id
            for job, mark in self._backlog.given(plugin.name)
            if mark.burst and mark.burst not in alive
        ]
        self._assigner.release(plugin, stranded, "the burst that it waited for is not there")

    # --- what has become of a burst --------------------------------------------------------

    def _ended_there(self, plugin: BurstPlugin, burst: Burst) -> None:
        """End the job here that has ended in an isolated burst, and then the burst.

        How it ended is recorded first, and before its output is there: whatever happens from then
        on, it is not started again. As long as its output is to be fetched, the burst stays.
        """
        gone = burst.state is BurstState.FAILED
        why = "" if gone else burst.error
        burst = self._store.record(plugin, replace(burst, state=BurstState.READY, error=why))
        self._store.created([burst])
        self._store.ledger.set_breaker(Breaker(burst.plugin, burst.node_type))
        ended = self._note_usage(burst)
        if burst.output.startswith(UNREAD):
            if not gone and self._store.now() < ended + self.policy.timeouts.output:
                return
            burst = without_hope(burst)
            _log.warning("burst %s: the output of its job is %s", burst.name, burst.output)
        note = end_note(burst)
        burst = self._store.record(plugin, replace(burst, error=""))
        self._backlog.end(dict.fromkeys(self._assigner.waiting_for(plugin, {burst.name}), note))
        self._terminator.end(burst, note)

    def _note_usage(self, burst: Burst) -> float:
        """Record that an isolated burst's job had all of it, since it ran there; return until when.

        That is when its end was first seen, however often it is looked at.
        """
        ledger = self._store.ledger
        entry = ledger.entry(burst.name)
        assert entry is not None
        known = [usage.ended for usage in ledger.usages_of(entry.id) if usage.ended is not None]
        ended = min(known, default=self._store.now())
        started = ended if entry.ready is None else min(entry.ready, ended)
        user = -1 if entry.user is None else entry.user
        ledger.use(Usage(entry.id, job, user, burst.nodes, started, ended) for job in burst.jobs)
        return ended

    def _broken(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Take down what is left of a burst that lost nodes, once no job runs on that."""
        if burst.isolated and burst.joined:  # its job began: that is a start
            self._store.record(plugin, replace(burst, state=BurstState.READY, error=""))
        if not self._busy(burst):
            self._failed(plugin, burst)
            return
        known = self._store.ledger.entry(burst.name)
        assert known is not None
        self._store.record(plugin, replace(burst, state=known.burst.state))
        self._terminator.drain(replace(known, burst=burst), burst.error)
        waiting = self._assigner.waiting_for(plugin, {burst.name})
        self._assigner.release(plugin, waiting, burst.error)

    def _failed(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Count the failure of a burst that did not come up, and have it taken down."""
        if burst.state in COMING_STATES or burst.state is BurstState.FAILED:
            self._count_failure(burst)
        self._end_it(plugin, burst)

    def _end_it(self, plugin: BurstPlugin, burst: Burst) -> None:
        """Have what there is of a burst taken down, and free the jobs that wait for it."""
        self._terminator.end(burst)
        waiting = self._assigner.waiting_for(plugin, {burst.name})
        self._assigner.release(plugin, waiting, burst.error)

    def _busy(self, burst: Burst) -> bool:
        ranks = self._store.ranks_of([burst])[burst.name]
        return bool(ranks and self._instance.jobs_on(ranks))

    def _waits_too_long(self, entry: Entry, burst: Burst) -> str:
        """Return why a burst is given up that waits in its provider's queue; empty where it stays.

        While its plugin does not answer, nothing is known of it: it may have come up.
        """
        limit, waited = self.policy.timeouts.request, self._store.now() - entry.requested
        waits = burst.state is BurstState.REQUESTED and burst.plugin in self._answering
        if not waits or waited <= limit:
            return ""
        last = f": {burst.error}" if burst.error else ""
        return (
            f"it waited in its provider's queue for {format_duration(round(waited))}, and request "
            f"in [timeouts] is {format_duration(limit)}{last}"
        )

    def _too_slow(self, entry: Entry) -> str:
        limit, now = self.policy.timeouts.join, self._store.now()
        if entry.started is not None and now - entry.started > limit:
            return f"it did not join within {format_duration(limit)}"
        late = self._outliving.why_too_late(entry, now)
        return f"it comes up too late: {late}" if late else ""

    def _count_failure(self, burst: Burst, *, final: bool = False) -> None:
        ledger = self._store.ledger
        key = burst.plugin, burst.node_type
        breaker = ledger.breakers().get(key, Breaker(*key))
        now = self._store.now()
        policy = self.policy.breakers
        ledger.set_breaker(failed(breaker, policy, now, burst.error, final=final))


_NEVER_ANSWERED = "whoever asked for it ended before it was answered"
_VANISHED = "it is there no longer: its plugin does not list it, and none of its nodes is up"
_ORPHAN = "it is in no record"
_NOT_HELD = "its job is held here no longer: it was cancelled, or starts here"


def _changes(burst: Burst) -> bool:
    """Whether a burst is to be looked at: it is coming, or what it runs may have ended there."""
    if burst.isolated:
        return burst.state in LIVE_STATES and burst.state is not BurstState.ENDING
    return burst.state in COMING_STATES


def _looks_twice(plugin: BurstPlugin, burst: Burst) -> bool:
    """Whether what a list says of a burst is not enough, as its plugin is asked for it as well.

    An isolated burst has no nodes here that would tell, and its job is started again where it is
    taken for lost. Each pass asks refresh() for it, after the list; only what that says counts.
    """
    return burst.isolated and type(plugin).refresh is not BurstPlugin.refresh


def _what_is_there(plugin: BurstPlugin) -> _Seen:
    """Return the bursts that exist, as far as the plugin can tell.

    Raises:
        BurstError: if it answers with something else.
    """
    plugin.instance_tag  # noqa: B018 - where that cannot be told, nothing is known to be ours
    adopted = plugin.adopt()
    if adopted is not None:
        found, wrong = check_adopted(adopted, plugin.name)
        return _Seen(found, (), complete=True, wrong=wrong)
    if type(plugin).list_bursts is BurstPlugin.list_bursts:
        return _Seen(None, ())  # it only remembers its own
    return _Seen(dict.fromkeys(check_names(plugin.list_bursts(), "list_bursts()")), ())


def _refreshed(plugin: BurstPlugin, burst: Burst, refused: dict[str, BurstError]) -> Burst:
    """Return a burst as its plugin sees it; a plugin that cannot tell leaves a note on it.

    One that its provider will not supply after all is noted as refused.
    """
    try:
        return check_burst(plugin.refresh(replace(burst, error="")), burst, "refresh()")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a provider's library may raise anything
        failure = as_burst_error(error, plugin.name, burst.name)
        if burst.exit_code is not None:
            return replace(burst, output=f"{UNREAD}{failure}")
        if failure.final:
            refused[burst.name] = failure
        return replace(burst, error=str(failure))


def _failed_if_leaving(burst: Burst, known: Burst) -> Burst:
    """Return a burst as failed that its plugin takes down, or took down, before it came up."""
    leaving = burst.state in LEAVING_STATES or burst.state is BurstState.ENDED
    if not leaving or burst.exit_code is not None or known.state not in COMING_STATES:
        return burst
    why = burst.error or f"it did not come up: its plugin answered {burst.state.value!r}"
    return replace(burst, state=BurstState.FAILED, error=why)


def _joined(burst: Burst, up: Collection[str]) -> Burst:
    """Return the burst with its state as the instance's nodes show it."""
    if burst.state not in COMING_STATES or not burst.hostnames:
        return burst
    joined = sum(hostname in up for hostname in burst.hostnames)
    if joined == burst.nodes:
        return replace(burst, state=BurstState.READY, joined=joined, error="")
    return replace(burst, state=BurstState.JOINING, joined=joined) if joined else burst
