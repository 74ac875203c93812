"""Waits for events of a live instance, also during its outages."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fluxburst.errors import FluxUnavailableError, InstanceError
from fluxburst.flux.connections import Connections, answered
from fluxburst.flux.event_stream import EventStream
from fluxburst.flux.protocol import Changes
from fluxburst.flux.wakeup import Wakeup

RETRY_SECONDS = 1.0
"""How often a wait checks whether an instance is back after an outage."""


class EventWatch:
    """The event streams of an instance, reopened after a failure.

    Args:
        connections: The connections to the instance.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._stream: EventStream | None = None
        self._stream_lock = threading.RLock()
        self._away = False
        self._retry_at = -math.inf
        self._wakeup = Wakeup()

    def changes(self) -> Changes:
        """Return the changes among the pending jobs, up to now."""
        with self._stream_lock:
            if self._stream is not None:
                # If the streams broke, the instance may be back already.
                with suppress(InstanceError):
                    return self._changes()
            return self._changes()

    def _changes(self) -> Changes:
        with self._streaming("what changed in its queue") as stream:
            stream.catch_up()
            self._away = False
            return stream.changes()

    def wait(self, seconds: float) -> None:
        """Return after this many seconds, or on an event, or on :meth:`wake`."""
        until = time.monotonic() + seconds
        with self._wakeup.rung_by_signals():
            while not self._wakeup.answer():
                stream, news = self._observe(until)
                left = until - time.monotonic()
                if news or left <= 0:
                    return
                heard = select.poll()
                heard.register(self._wakeup.fileno(), select.POLLIN)
                if stream is not None:
                    heard.register(stream, select.POLLIN)
                else:
                    left = min(left, max(0.0, self._retry_at - time.monotonic()))
                heard.poll(math.ceil(left * 1000))

    def wake(self) -> None:
        """End the :meth:`wait` under way, or the next; from any thread or signal handler."""
        self._wakeup.ring()

    def close(self) -> None:
        """Close the streams; they reopen when needed."""
        with self._stream_lock:
            self._stream = None

    @contextmanager
    def _streaming(self, what: str) -> Iterator[EventStream]:
        """Lend the streams; on failure, close them and raise one clear error."""
        with self._stream_lock:
            try:
                if self._stream is None:
                    self._connections.check_owner()
                    self._stream = EventStream(self._connections.open(what))
                yield self._stream
            except BaseException as error:
                self._stream = None
                self._away = True
                self._retry_at = time.monotonic() + RETRY_SECONDS
                if isinstance(error, OSError):
                    raise answered(what, error) from error
                raise

    def _observe(self, until: float) -> tuple[EventStream | None, bool]:
        """Read events and return whether there were any; without streams during an outage."""
        with self._stream_lock:
            was_away = self._away
            if self._stream is None and time.monotonic() < self._retry_at:
                return None, False
            try:
                with self._streaming("what happens") as stream:
                    stream.drain(until)
            except (InstanceError, FluxUnavailableError):
                return None, not was_away
            if was_away and stream.caught_up:
                self._away = False
            return stream, stream.take_news() or (was_away and not self._away)
