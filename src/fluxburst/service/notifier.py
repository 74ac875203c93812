"""The built-in observer: runs a command or posts JSON to a URL for selected events.

An event is one JSON object in ASCII. Every event has ``event`` (one of :data:`EVENTS`), ``time``
(seconds since the epoch, by the instance's clock) and ``instance`` (its name). A job is
``{"id": 1234, "f58": "ƒNp"}``. The other keys:

===================================== ==========================================================
event                                 keys
===================================== ==========================================================
``burst_requested``, ``burst_ready``, ``burst``: every attribute of :class:`~fluxburst.Burst`,
``burst_ended``, ``burst_failed``,    ``jobs`` being jobs; ``previous``: the state it was in, null
``burst_changed``                     for a new one
``job_scheduled``                     ``plugin``; ``jobs``: the one job
``jobs_unmatched``                    ``jobs``: those newly unmatched
``jobs_not_started``                  ``jobs``: those that did not start on ready, free nodes, and
                                      were released; ``plugin``; ``burst_name``, null if the
                                      nodes were free before; ``error``: why
``phase_failed``                      ``phase``; ``plugin``, null if no plugin is to blame;
                                      ``error``: its text; ``error_type``; ``count``: occurrences
                                      since it was last sent, this one included
``limit_reached``                     as ``phase_failed``, if a limit was the cause
                                      done
===================================== ==========================================================

A change of a burst is one event: ``burst_ready``, ``burst_ended`` or ``burst_failed`` if it entered
this state, else ``burst_requested`` if it is new, else ``burst_changed``.

A command gets the JSON on standard input, and in its environment ``FLUXBURST_EVENT``,
``FLUXBURST_EVENT_INSTANCE`` and, where the event has them, ``FLUXBURST_EVENT_PLUGIN``,
``FLUXBURST_EVENT_BURST`` and ``FLUXBURST_EVENT_STATE``.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fluxburst.config.notification import Notification
from fluxburst.errors import (
    FluxburstError,
    LimitError,
)
from fluxburst.formats.fluid import format_f58
from fluxburst.hookspecs import hookimpl
from fluxburst.model.burst import Burst, BurstState
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin
from fluxburst.service.delivery import deliver
from fluxburst.service.outbox import Event, Outbox

if TYPE_CHECKING:
    from fluxburst.plugin.client_view import ClientView

_log = logging.getLogger(__name__)

_OF_STATE = {
    BurstState.READY: "burst_ready",
    BurstState.ENDED: "burst_ended",
    BurstState.FAILED: "burst_failed",
}


class Notifier:
    """Delivers events in its own thread, so that a slow or broken receiver never delays a pass.

    Failed deliveries are logged and not retried. Register it as an implementation of hooks:
    ``client.hooks.register(notifier, "fluxburst")``.
    """

    def __init__(
        self, notifications: Iterable[Notification], *, limit: int = 10_000, window: float = 60.0
    ) -> None:
        """Prepare; the thread starts with the first event to deliver.

        Args:
            notifications: Receivers and their events.
            limit: How many events may wait; beyond that, the oldest are dropped.
            window: For how many seconds repeated ``phase_failed`` and ``limit_reached`` events are
                only counted.
        """
        self._notifications = tuple(notifications)
        self._outbox = Outbox(self._send, limit=limit, window=window)
        self._unmatched: frozenset[int] = frozenset()
        self._instance = ""

    @property
    def dropped(self) -> int:
        """How many events were dropped so far."""
        return self._outbox.dropped

    @hookimpl
    def fluxburst_burst_changed(
        self, burst: Burst, previous: Burst | None, client: ClientView
    ) -> None:
        """Send a burst's change."""
        came = previous is None or previous.state is not burst.state
        other = "burst_requested" if previous is None else "burst_changed"
        name = _OF_STATE.get(burst.state, other) if came else other
        what = {**dataclasses.asdict(burst), "jobs": [_job(jobid) for jobid in burst.jobs]}
        before = None if previous is None else previous.state.value
        self._tell(client, name, burst={**what, "state": burst.state.value}, previous=before)

    @hookimpl
    def fluxburst_job_scheduled(self, job: Job, plugin: BurstPlugin, client: ClientView) -> None:
        """Send a job's assignment to a plugin."""
        self._tell(client, "job_scheduled", plugin=plugin.name, jobs=[_job(job.id)])

    @hookimpl
    def fluxburst_jobs_unmatched(self, jobs: Sequence[Job], client: ClientView) -> None:
        """Send the jobs that no plugin took, except those of the last time."""
        before, self._unmatched = self._unmatched, frozenset(job.id for job in jobs)
        new = [_job(job.id) for job in jobs if job.id not in before]
        if new:
            self._tell(client, "jobs_unmatched", jobs=new)

    @hookimpl
    def fluxburst_jobs_not_started(
        self,
        jobs: Sequence[Job],
        plugin: BurstPlugin,
        burst: str,
        reason: str,
        client: ClientView,
    ) -> None:
        """Send jobs that did not start although their nodes were free."""
        named = [_job(job.id) for job in jobs]
        what = {"plugin": plugin.name, "burst_name": burst or None, "error": reason}
        self._tell(client, "jobs_not_started", jobs=named, **what)

    @hookimpl
    def fluxburst_phase_failed(
        self, phase: str, plugin: BurstPlugin | None, error: Exception, client: ClientView
    ) -> None:
        """Send a failure, or count it."""
        name, kind, text = plugin and plugin.name, type(error).__name__, str(error)
        what = {"phase": phase, "plugin": name, "error": text, "error_type": kind}
        event = "limit_reached" if isinstance(error, LimitError) else "phase_failed"
        self._tell(client, event, key=(phase, name, text, kind), **what)

    def close(self, timeout: float = 30.0) -> None:
        """Send waiting events and end the thread; after ``timeout`` s, the rest is lost."""
        self._outbox.close(timeout)

    def _tell(self, client: ClientView, event: str, key: Hashable = None, **what: Any) -> None:
        if any(notification.wants(event) for notification in self._notifications):
            now, name = self._when_and_where(client)
            self._outbox.put({"event": event, "time": now, "instance": name, **what}, key)

    def _when_and_where(self, client: ClientView) -> tuple[float, str]:
        """Return the time and the instance's name; the instance may be unreachable."""
        try:
            self._instance = self._instance or client.instance.name
            return client.now(), self._instance
        except FluxburstError:
            return time.time(), self._instance

    def _send(self, event: Event) -> None:
        for notification in self._notifications:
            if not notification.wants(event["event"]):
                continue
            try:
                deliver(event, notification)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - only our own errors hold no secrets
                known = isinstance(error, FluxburstError)
                cause = error if known else type(error).__name__
                _log.warning("could not deliver event %s: %s", event["event"], cause)


def _job(jobid: int) -> dict[str, Any]:
    return {"id": jobid, "f58": format_f58(jobid)}
