"""Watching an instance: wake on events, gather them for a moment, run one pass."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fluxburst.client import FluxBurst
from fluxburst.config.file import Config
from fluxburst.errors import (
    BurstErrors,
    FluxburstError,
    HeldError,
    InstanceError,
    LedgerError,
    PatienceError,
    UnexpectedError,
)
from fluxburst.formats.units import format_duration
from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import COMING_STATES, LEAVING_STATES, LIVE_STATES, Burst, BurstState
from fluxburst.model.plan import Plan
from fluxburst.reports.leases import overdue, unarmed

PATIENCE = 0.2
"""How many seconds a pass waits for plugins; what is not answered is taken in by a later one."""

SOON = 2.0
"""How often plugins are asked while bursts come or go, in seconds."""

RETRY = 30.0
"""How often plugins are asked at least while a burst could not be taken down, in seconds."""

LEAST_PAUSE = 0.02
"""How long to wait after a second pass in a row that failed, at least; doubled with each."""

JUMP = 5.0
"""By how many seconds the clock may go wrong between two passes before that is said."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What became of one pass.

    Attributes:
        seconds: How long it took.
        plan: The plan for the jobs that it looked at; None if it came to none.
        error: What failed; None if nothing did.
    """

    seconds: float
    plan: Plan | None = None
    error: FluxburstError | None = None

    @property
    def reachable(self) -> bool:
        """Whether the instance could be asked."""
        return not isinstance(self.error, InstanceError)


class Service:
    """Runs passes for as long as it is not stopped.

    It may be stopped, or told to read its configuration again, from a signal handler.

    Args:
        client: The client, with its plugins loaded.
        read_config: Reads the configuration again; by default it stays.
        reread_done: Called when that is done, also where the former configuration stays.
        tell: Told of every pass.
        beat: Called at least every ``beat_seconds`` while nothing happens, for a watchdog.
        beat_seconds: How often.
    """

    def __init__(
        self,
        client: FluxBurst,
        *,
        read_config: Callable[[], Config] | None = None,
        reread_done: Callable[[], None] = lambda: None,
        tell: Callable[[Report], None] = lambda _: None,
        beat: Callable[[], None] = lambda: None,
        beat_seconds: float = 60.0,
    ) -> None:
        self._client = client
        self._read_config = read_config
        self._reread_done = reread_done
        self._tell = tell
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._stopping = False
        self._rereading = False
        self._asked_at = float("-inf")
        self._clock = time.time() - time.monotonic()
        self._failing = _Failing()
        self._failed_in_a_row = 0
        self._overdue: set[str] = set()
        client.hooks.register(_FailedBursts(), "fluxburst")

    def stop(self) -> None:
        """Leave after the step that is under way."""
        self._stopping = True
        self._client.instance.wake()

    def reread(self) -> None:
        """Read the configuration again after the step that is under way."""
        self._rereading = True
        self._client.instance.wake()

    def run(self, passes: int | None = None) -> None:
        """Run passes until it is stopped, or so many.

        Raises:
            HeldError: if another client holds the instance.
            LedgerError: if the ledger cannot be written at the start.
            InstanceError: if the instance cannot be reached at the start.
        """
        self._client.hold()
        while not self._stopping and passes != 0:
            if self._rereading:
                self._reread()
            report = self.pass_once()
            self._tell(report)
            self._beat()
            passes = None if passes is None else passes - 1
            if not self._stopping and passes != 0:
                self._sleep(report)

    def drain(self) -> Sequence[str]:
        """Take all bursts down; return the names that are gone.

        Raises:
            BurstErrors: for what could not be taken down.
        """
        return self._client.run_unburst()

    def pass_once(self) -> Report:
        """Run one pass; what fails is reported, and logged once for as long as it is the same."""
        self._check_clock()
        started = time.monotonic()
        plan, error = None, None
        everything = self._is_time_to_ask()
        if everything:
            self._failing.asked_anew(self._left())
        try:
            plan = self._client.run_pass(everything=everything, patience=PATIENCE)
        except HeldError:
            raise
        except FluxburstError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - the service goes on, and says it
            error = UnexpectedError(failure)
        if isinstance(error, _CUT_SHORT) and not self._goes_on_without():
            self._asked_at = float("-inf")  # whoever was to be asked may not have been
        self._failing.note(error)
        self._failed_in_a_row = self._failed_in_a_row + 1 if error is not None else 0
        self._check_leases()
        return Report(time.monotonic() - started, plan, error)

    # --- the steps -------------------------------------------------------------------------

    def _goes_on_without(self) -> bool:
        """Whether a pass does what it can without a ledger that can be written."""
        try:
            return bool(self._client.ledger.unwritable)
        except FluxburstError:
            return False

    def _is_time_to_ask(self) -> bool:
        """Whether plugins are to be asked what is there; notes that they are."""
        now = self._client.now()
        due = now >= self._asked_at + self._interval() or now < self._asked_at
        if due:
            self._asked_at = now
        return due

    def _interval(self) -> float:
        """Return how often plugins are asked: more often while something comes or goes."""
        poll = self._client.config.policy.watch.poll
        states = COMING_STATES | LEAVING_STATES
        bursts = [b for plugin in self._client.plugins.values() for b in plugin.bursts.values()]
        bursts = [burst for burst in bursts if burst.state in LIVE_STATES]
        left = [burst for burst in bursts if burst.is_left]
        if any(b.state in states or b.isolated for b in bursts if b not in left):
            return min(SOON, poll)
        return min(RETRY, poll) if left else poll

    def _sleep(self, report: Report) -> None:
        """Wait for something to happen, or to be due, and then for what happens with it."""
        instance = self._client.instance
        if not report.reachable or isinstance(report.error, LedgerError):
            time.sleep(min(SOON, self._client.config.policy.watch.poll))
            return
        now = self._client.now()
        try:
            until = min(self._asked_at + self._interval(), self._client.next_due())
            instance.wait(max(0.0, min(until - now, self._beat_seconds)))
            self._gather(report)
        except Exception as error:  # noqa: BLE001 - the service goes on, and says it
            known = error if isinstance(error, FluxburstError) else UnexpectedError(error)
            self._failing.note(known)
            time.sleep(min(SOON, self._client.config.policy.watch.poll))

    def _gather(self, report: Report) -> None:
        end = self._client.now() + self._pause(report)
        while not self._stopping and (left := end - self._client.now()) > 0:
            self._client.instance.wait(left)

    def _pause(self, report: Report) -> float:
        """Return how long events are gathered: longer with each pass in a row that fails.

        What a failed pass has changed and taken back wakes the service like any other event.
        """
        gather = float(self._client.config.policy.watch.gather)
        if self._failed_in_a_row <= 1:
            return gather
        unexpected = isinstance(report.error, UnexpectedError)
        most = min(RETRY, self._beat_seconds) if unexpected else SOON
        return max(gather, min(most, LEAST_PAUSE * 2.0 ** min(self._failed_in_a_row, 10)))

    def _reread(self) -> None:
        self._rereading = False
        if self._read_config is None:
            return
        try:
            self._client.reconfigure(self._read_config())
            _log.info("the configuration was read again")
        except FluxburstError as error:
            _log.error("the configuration is not used, the former one stays: %s", error)
        self._reread_done()

    def _check_leases(self) -> None:
        """Say once of each burst that it lives on after its lease, as nothing ends it."""
        try:
            live, now = self._client.ledger.live(), self._client.now()
        except FluxburstError:
            return  # which the pass has said
        over = [e for e in live if (e.burst.lease_until or math.inf) <= now]
        new = [entry for entry in over if entry.burst.name not in self._overdue]
        for text in overdue(new, unarmed(new, self._client.plugins), now):
            _log.warning("%s", text)
        self._overdue = {entry.burst.name for entry in over}

    def _left(self) -> frozenset[str]:
        """Return the names of the bursts that could not be taken down."""
        try:
            live = self._client.ledger.live()
        except FluxburstError:
            return frozenset()  # the pass says it
        return frozenset(entry.burst.name for entry in live if entry.burst.is_left)

    def _check_clock(self) -> None:
        """Say when the clock was set: leases and timers go by it."""
        offset = time.time() - time.monotonic()
        jump = offset - self._clock
        if abs(jump) > JUMP:
            way = "forward" if jump > 0 else "back"
            _log.warning("the clock was set %s by %s", way, format_duration(abs(jump)))
            self._asked_at = float("-inf")
        self._clock = offset


class _FailedBursts:
    """Logs the bursts that fail after they were created; before that, an error says so."""

    @hookimpl
    def fluxburst_burst_changed(
        self, burst: Burst, previous: Burst | None, client: FluxBurst
    ) -> None:
        """Log a failure."""
        if previous is None or previous.state is BurstState.REQUESTED:
            return
        if burst.error and burst.state in _FAILING and burst.error != previous.error:
            extra = {"burst": burst.name, "plugin": burst.plugin}
            _log.warning("burst %s: failed: %s", burst.name, burst.problem, extra=extra)


_FAILING = frozenset({BurstState.ENDING, BurstState.FAILED})


class _Failing:
    """What fails, so that each failure is logged once, and its end as well."""

    def __init__(self) -> None:
        self._whole = ""
        self._known: dict[str, str] = {}
        self._seen: dict[str, str] = {}

    def asked_anew(self, left: Collection[str]) -> None:
        """Plugins are asked again: what has not failed since they were asked last is over.

        Save for ``left``, the bursts that could not be taken down: that is not tried in each pass.
        """
        goes_on = {key: burst for key, burst in self._known.items() if burst in left}
        known = {**goes_on, **self._seen}
        if self._known and not known:
            _log.info(_OVER)
        self._known, self._seen = known, {}

    def note(self, error: FluxburstError | None) -> None:
        """Log what has failed in a pass, or in waiting for the next, unless that is known."""
        several = isinstance(error, BurstErrors)
        for one in error.errors if isinstance(error, BurstErrors) else ():
            key = _key(one)
            if key not in {**self._known, **self._seen}:
                _warn(one)
            self._seen[key] = getattr(one, "burst", "")
        whole = "" if error is None or several else str(error)
        if error is not None and whole and whole != self._whole:
            _warn(error)
        elif self._whole and not whole:
            _log.info(_OVER)
        self._whole = whole


_CUT_SHORT = (InstanceError, LedgerError, UnexpectedError)
"""What ends a pass before all plugins have been asked."""

_OVER = "what had failed does so no longer"


def _key(error: FluxburstError) -> str:
    """Return what tells failures apart: how long a plugin has not answered does not."""
    return f"{error.plugin} is silent" if isinstance(error, PatienceError) else str(error)


def _warn(error: FluxburstError) -> None:
    about = {"plugin": getattr(error, "plugin", ""), "burst": getattr(error, "burst", "")}
    if isinstance(error, UnexpectedError):
        _log.error("a pass failed: %s", error, exc_info=error.__cause__)
    else:
        _log.warning("%s", error, extra=about)
