"""Watching an instance: wake on events, gather them for a moment, run one pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fluxburst.bursts import COMING_STATES, LEAVING_STATES
from fluxburst.client import FluxBurst
from fluxburst.config import Config
from fluxburst.errors import BurstErrors, FluxburstError, HeldError, InstanceError, LedgerError
from fluxburst.plan import Plan
from fluxburst.quantities import format_duration

PATIENCE = 0.2
"""How many seconds a pass waits for plugins; what is not answered is taken in by a later one."""

SOON = 2.0
"""How often plugins are asked while bursts come or go, in seconds."""

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
        self._last_error = ""

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
        self._look_at_clock()
        started = time.monotonic()
        plan, error = None, None
        try:
            plan = self._client.run_pass(everything=self._is_time_to_ask(), patience=PATIENCE)
        except HeldError:
            raise
        except FluxburstError as failure:
            error = failure
        self._log(error)
        return Report(time.monotonic() - started, plan, error)

    # --- the steps -------------------------------------------------------------------------

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
        return min(SOON, poll) if any(burst.state in states for burst in bursts) else poll

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
            self._gather()
        except (InstanceError, LedgerError) as error:
            self._log(error)

    def _gather(self) -> None:
        end = self._client.now() + self._client.config.policy.watch.gather
        while not self._stopping and (left := end - self._client.now()) > 0:
            self._client.instance.wait(left)

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

    def _look_at_clock(self) -> None:
        """Say when the clock was set: leases and timers go by it."""
        offset = time.time() - time.monotonic()
        jump = offset - self._clock
        if abs(jump) > JUMP:
            way = "forward" if jump > 0 else "back"
            _log.warning("the clock was set %s by %s", way, format_duration(abs(jump)))
            self._asked_at = float("-inf")
        self._clock = offset

    def _log(self, error: FluxburstError | None) -> None:
        text = "" if error is None else str(error)
        if text and text != self._last_error:
            for one in error.errors if isinstance(error, BurstErrors) else [error]:
                plugin, burst = getattr(one, "plugin", ""), getattr(one, "burst", "")
                _log.warning("%s", one, extra={"plugin": plugin, "burst": burst})
        elif self._last_error and not text:
            _log.info("what had failed does so no longer")
        self._last_error = text
