"""A bounded queue of events, emptied by one thread, so that who sends them never waits."""

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
    """What happened again and is not sent before the monotonic clock says ``until``."""

    until: float
    count: int = 0
    latest: Event = field(default_factory=dict)


class Outbox:
    """Sends events in a thread of its own, in order.

    The thread is started by the first event, ended by :meth:`close`, and keeps no process from
    ending. When the queue is full the oldest events are dropped, counted, and the count is logged.

    Attributes:
        dropped: How many events were dropped so far.
    """

    def __init__(self, send: Callable[[Event], None], *, limit: int, window: float) -> None:
        """Prepare, and start nothing.

        Args:
            send: Sends one event; it must not raise.
            limit: How many events may wait, at least 1.
            window: For how many seconds events with the same key are only counted.
        """
        self.dropped = 0
        self._send = send
        self._limit = limit
        self._window = window
        self._queue: deque[Event] = deque()
        # In the order of their ends: the window is the same for all of them.
        self._repeats: dict[Hashable, _Repeat] = {}
        self._overflowing = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, event: Event, key: Hashable = None) -> None:
        """Have an event sent; after :meth:`close`, none is any more.

        Args:
            event: What is sent.
            key: Events with the same key are sent once in a window, with their number since the
                last time, this one included, as ``count``. None for an event that always is sent.
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
        """Send what waits, counted events too, and end the thread.

        What is not sent within ``timeout`` seconds never is; how much that is, is logged.
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
                _log.warning("lost, as not sent in time: %s", lost)
            self._queue.clear()

    def _append(self, event: Event) -> None:
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self.dropped += 1
            if not self._overflowing:
                _log.warning("events come faster than they can be sent: the oldest are dropped")
            self._overflowing = True
        self._queue.append(event)

    def _release(self) -> None:
        """Queue what was counted, once its window is over or the box is closed."""
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
        """Wait for an event; None once there will be no more."""
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
