"""Waiting for what happens in a live instance, also while it is away."""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fluxburst.errors import FluxUnavailableError, InstanceError
from fluxburst.flux.connections import Connections, answered
from fluxburst.flux.event_stream import Feed
from fluxburst.flux.protocol import Changes
from fluxburst.flux.wakeup import Bell

RETRY_SECONDS = 1.0
"""How often a wait looks whether an instance that went away is back."""


class EventWatch:
    """The event streams of an instance, which are opened anew where they broke.

    Args:
        connections: The connections to the instance.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._feed: Feed | None = None
        self._feed_lock = threading.RLock()
        self._away = False
        self._retry_at = -math.inf
        self._bell = Bell()

    def changes(self) -> Changes:
        """Return what changed among the pending jobs, up to now."""
        with self._feed_lock:
            if self._feed is not None:
                # Where the streams broke, it may be back already.
                with suppress(InstanceError):
                    return self._changes()
            return self._changes()

    def _changes(self) -> Changes:
        with self._feeding("what changed in its queue") as feed:
            feed.catch_up()
            self._away = False
            return feed.changes()

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or once something happened, or on :meth:`wake`."""
        until = time.monotonic() + seconds
        with self._bell.rung_by_signals():
            while not self._bell.answer():
                feed, news = self._look(until)
                left = until - time.monotonic()
                if news or left <= 0:
                    return
                heard = select.poll()
                heard.register(self._bell.fileno(), select.POLLIN)
                if feed is not None:
                    heard.register(feed, select.POLLIN)
                else:
                    left = min(left, max(0.0, self._retry_at - time.monotonic()))
                heard.poll(math.ceil(left * 1000))

    def wake(self) -> None:
        """End the :meth:`wait` under way, or the next; from any thread or signal handler."""
        self._bell.ring()

    def close(self) -> None:
        """Let go of the streams; they are opened again when they are needed."""
        with self._feed_lock:
            self._feed = None

    @contextmanager
    def _feeding(self, what: str) -> Iterator[Feed]:
        """Lend the streams; let go of them, and raise one clear error, if that fails."""
        with self._feed_lock:
            try:
                if self._feed is None:
                    self._connections.check_owner()
                    self._feed = Feed(self._connections.open(what))
                yield self._feed
            except BaseException as error:
                self._feed = None
                self._away = True
                self._retry_at = time.monotonic() + RETRY_SECONDS
                if isinstance(error, OSError):
                    raise answered(what, error) from error
                raise

    def _look(self, until: float) -> tuple[Feed | None, bool]:
        """Read what happened, and say whether something did; no streams while it is away."""
        with self._feed_lock:
            was_away = self._away
            if self._feed is None and time.monotonic() < self._retry_at:
                return None, False
            try:
                with self._feeding("what happens") as feed:
                    feed.drain(until)
            except (InstanceError, FluxUnavailableError):
                return None, not was_away
            if was_away and feed.caught_up:
                self._away = False
            return feed, feed.take_news() or (was_away and not self._away)
