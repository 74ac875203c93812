"""A bounded queue of events, emptied by one thread, so that senders never wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from fluxburst.formats.units import counted

Event = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass
class _Repeat:
    """A repeated event, held back until the monotonic clock reaches ``until``."""

    until: float
    count: int = 0
    latest: Event = field(default_factory=dict)


class Outbox:
    """Sends events in its own thread, in order.

    The first event starts the thread and :meth:`close` ends it; it keeps no process from
    exiting. If the queue is full, the oldest events are dropped, and their count is logged.

    Attributes:
        dropped: Number of events dropped so far.
    """

    def __init__(self, send: Callable[[Event], None], *, limit: int, window: float) -> None:
        """Prepare without starting the thread.

        Args:
            send: Sends one event; must not raise.
            limit: How many events may wait, at least 1.
            window: For how many seconds events with the same key are only counted.
        """
        self.dropped = 0
        self._send = send
        self._limit = limit
        self._window = window
        self._queue: deque[Event] = deque()
        # Ordered by their ends, since the window is the same for all.
        self._repeats: dict[Hashable, _Repeat] = {}
        self._overflowing = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, event: Event, key: Hashable = None) -> None:
        """Queue an event; after :meth:`close`, events are ignored.

        Args:
            event: The event.
            key: Events with the same key are sent once per window, with ``count``: their number
                since the last time, this one included. None for an event that is always sent.
        """
        with self._changed:
            if self._closed:
                return
            repeat = self._repeats.get(key)
            if repeat is not None:
                repeat.count, repeat.latest = repeat.count + 1, event
                return
            if key is not None:
                self._repeats[key] = _Repeat(time.monotonic() + self._window)
                event = {**event, "count": 1}
            self._append(event)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="fluxburst-outbox", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Send waiting and counted events, and end the thread.

        Events not sent within ``timeout`` seconds are lost, and their number is logged.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is None:
            return
        self._thread.join(timeout)
        with self._changed:
            if self._thread.is_alive():
                lost = counted(1 + len(self._queue), "event")
                _log.warning("events lost, not sent in time: %s", lost)
            self._queue.clear()

    def _append(self, event: Event) -> None:
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.dropped += 1
            if not self._overflowing:
                _log.warning("events come faster than they can be sent: dropping the oldest")
            self._overflowing = True
        self._queue.append(event)

    def _release(self) -> None:
        """Queue counted events once their window is over or the box is closed."""
        now = time.monotonic()
        while self._repeats:
            key, repeat = next(iter(self._repeats.items()))
            if repeat.until > now and not self._closed:
                return
            del self._repeats[key]
            if repeat.count:
                self._append({**repeat.latest, "count": repeat.count})
                if not self._closed:
                    self._repeats[key] = _Repeat(now + self._window)

    def _work(self) -> None:
        while (event := self._next()) is not None:
            self._send(event)

    def _next(self) -> Event | None:
        """Wait for an event; return None after the last one."""
        with self._changed:
            while True:
                self._release()
                if self._queue:
                    return self._queue.popleft()
                if self._overflowing:
                    _log.warning("dropped so far: %s", counted(self.dropped, "event"))
                    self._overflowing = False
                if self._closed:
                    return None
                first = next(iter(self._repeats.values()), None)
                self._changed.wait(first.until - time.monotonic() if first else None)
