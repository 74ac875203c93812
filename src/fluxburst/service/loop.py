"""Watches an instance: wakes on events, gathers them for a moment, runs one pass."""

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
"""How many seconds a pass waits for plugins; a later pass processes late answers."""

SOON = 2.0
"""How often plugins are asked while bursts start or end, in seconds."""

RETRY = 30.0
"""How often plugins are asked at least while a burst's termination fails, in seconds."""

LEAST_PAUSE = 0.02
"""Minimum wait after a second failed pass in a row; doubled with each."""

JUMP = 5.0
"""By how many seconds the clock may jump between two passes without a log line."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """The result of one pass.

    Attributes:
        seconds: Its duration.
        plan: The plan for the jobs examined; None if it made none.
        error: What failed; None if nothing did.
    """

    seconds: float
    plan: Plan | None = None
    error: FluxburstError | None = None

    @property
    def reachable(self) -> bool:
        """Whether the instance could be reached."""
        return not isinstance(self.error, InstanceError)


class Service:
    """Runs passes until it is stopped.

    Signal handlers may stop it, or make it reload its configuration.

    Args:
        client: The client, with its plugins loaded.
        read_config: Reloads the configuration; by default it stays the same.
        reread_done: Called after a reload, also if the former configuration stays.
        tell: Called with the report of every pass.
        beat: Called at least every ``beat_seconds`` while the service is idle, for a watchdog.
        beat_seconds: The interval.
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
        """Stop after the current step."""
        self._stopping = True
        self._client.instance.wake()

    def reread(self) -> None:
        """Reload the configuration after the current step."""
        self._rereading = True
        self._client.instance.wake()

    def run(self, passes: int | None = None) -> None:
        """Run passes until stopped, or at most this many.

        Raises:
            HeldError: if another client holds the instance.
            LedgerError: if the ledger is not writable at the start.
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
        """Terminate all bursts; return the names of those that are gone.

        Raises:
            BurstErrors: for bursts whose termination failed.
        """
        return self._client.run_unburst()

    def pass_once(self) -> Report:
        """Run one pass; report failures, and log each once for as long as it stays the same."""
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
        except Exception as failure:  # noqa: BLE001 - logged; the service goes on
            error = UnexpectedError(failure)
        if isinstance(error, _CUT_SHORT) and not self._goes_on_without():
            self._asked_at = float("-inf")  # the pass may have failed before it asked
        self._failing.note(error)
        self._failed_in_a_row = self._failed_in_a_row + 1 if error is not None else 0
        self._check_leases()
        return Report(time.monotonic() - started, plan, error)

    # --- their steps -----------------------------------------------------------------------

    def _goes_on_without(self) -> bool:
        """Whether a pass does what it can without a writable ledger."""
        try:
            return bool(self._client.ledger.unwritable)
        except FluxburstError:
            return False

    def _is_time_to_ask(self) -> bool:
        """Whether plugins are due to be asked; if so, notes the time."""
        now = self._client.now()
        due = now >= self._asked_at + self._interval() or now < self._asked_at
        if due:
            self._asked_at = now
        return due

    def _interval(self) -> float:
        """Return how often plugins are asked: more often while bursts start or end."""
        poll = self._client.config.policy.watch.poll
        states = COMING_STATES | LEAVING_STATES
        bursts = [b for plugin in self._client.plugins.values() for b in plugin.bursts.values()]
        bursts = [burst for burst in bursts if burst.state in LIVE_STATES]
        left = [burst for burst in bursts if burst.is_left]
        if any(b.state in states or b.isolated for b in bursts if b not in left):
            return min(SOON, poll)
        return min(RETRY, poll) if left else poll

    def _sleep(self, report: Report) -> None:
        """Wait for an event or a timer, and then for further events."""
        instance = self._client.instance
        if not report.reachable or isinstance(report.error, LedgerError):
            time.sleep(min(SOON, self._client.config.policy.watch.poll))
            return
        now = self._client.now()
        try:
            until = min(self._asked_at + self._interval(), self._client.next_due())
            instance.wait(max(0.0, min(until - now, self._beat_seconds)))
            self._gather(report)
        except Exception as error:  # noqa: BLE001 - logged; the service goes on
            known = error if isinstance(error, FluxburstError) else UnexpectedError(error)
            self._failing.note(known)
            time.sleep(min(SOON, self._client.config.policy.watch.poll))

    def _gather(self, report: Report) -> None:
        end = self._client.now() + self._pause(report)
        while not self._stopping and (left := end - self._client.now()) > 0:
            self._client.instance.wait(left)

    def _pause(self, report: Report) -> float:
        """Return how long to gather events: longer with each failed pass in a row.

        Changes that a failed pass made and reverted wake the service like any other event.
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
            _log.info("configuration reloaded")
        except FluxburstError as error:
            _log.error("cannot use the new configuration, keeping the former one: %s", error)
        self._reread_done()

    def _check_leases(self) -> None:
        """Warn once for each burst that outlived its lease because nothing ends it."""
        try:
            live, now = self._client.ledger.live(), self._client.now()
        except FluxburstError:
            return  # the pass has reported it
        over = [e for e in live if (e.burst.lease_until or math.inf) <= now]
        new = [entry for entry in over if entry.burst.name not in self._overdue]
        for text in overdue(new, unarmed(new, self._client.plugins), now):
            _log.warning("%s", text)
        self._overdue = {entry.burst.name for entry in over}

    def _left(self) -> frozenset[str]:
        """Return the names of the bursts whose termination failed."""
        try:
            live = self._client.ledger.live()
        except FluxburstError:
            return frozenset()  # the pass reports it
        return frozenset(entry.burst.name for entry in live if entry.burst.is_left)

    def _check_clock(self) -> None:
        """Log changes of the clock: leases and timers depend on it."""
        offset = time.time() - time.monotonic()
        jump = offset - self._clock
        if abs(jump) > JUMP:
            way = "forward" if jump > 0 else "back"
            _log.warning("the clock was set %s by %s", way, format_duration(abs(jump)))
            self._asked_at = float("-inf")
        self._clock = offset


class _FailedBursts:
    """Logs bursts that fail after their creation; before that, an error reports it."""

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
    """Current failures: each is logged once, and so is its end."""

    def __init__(self) -> None:
        self._whole = ""
        self._known: dict[str, str] = {}
        self._seen: dict[str, str] = {}

    def asked_anew(self, left: Collection[str]) -> None:
        """After plugins were asked: failures that did not recur are over.

        Except for ``left``, the bursts whose termination failed: not every pass retries them.
        """
        goes_on = {key: burst for key, burst in self._known.items() if burst in left}
        known = {**goes_on, **self._seen}
        if self._known and not known:
            _log.info(_OVER)
        self._known, self._seen = known, {}

    def note(self, error: FluxburstError | None) -> None:
        """Log failures of a pass, or of waiting for the next, unless known."""
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
"""Errors that end a pass before all plugins have been asked."""

_OVER = "recovered: earlier failures have cleared"


def _key(error: FluxburstError) -> str:
    """Return a failure's identity; how long a plugin has been silent does not matter."""
    return f"{error.plugin} is silent" if isinstance(error, PatienceError) else str(error)


def _warn(error: FluxburstError) -> None:
    about = {"plugin": getattr(error, "plugin", ""), "burst": getattr(error, "burst", "")}
    if isinstance(error, UnexpectedError):
        _log.error("a pass failed: %s", error, exc_info=error.__cause__)
    else:
        _log.warning("%s", error, extra=about)
