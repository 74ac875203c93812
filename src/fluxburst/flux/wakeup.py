"""What ends a wait from outside: from another thread, or from a signal's handler."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Iterator


class Wakeup:
    """Something that any thread and any signal handler can ring, and that poll(2) can hear."""

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        for descriptor in (self._heard, self._rung):
            os.set_blocking(descriptor, False)
            weakref.finalize(self, os.close, descriptor)

    def fileno(self) -> int:
        """Return a file descriptor that is readable once it was rung."""
        return self._heard

    def ring(self) -> None:
        """Ring it."""
        with contextlib.suppress(BlockingIOError):  # it was rung often enough
            os.write(self._rung, b"!")

    def answer(self) -> bool:
        """Whether it was rung since this was last asked."""
        try:
            return bool(os.read(self._heard, 65536))
        except BlockingIOError:
            return False

    @contextlib.contextmanager
    def rung_by_signals(self) -> Iterator[None]:
        """Have every signal that Python handles ring it.

        Handlers run between two steps of Python: one that arrives just before poll(2) is called
        would only be seen when that is over. Only the main thread is told of signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._rung, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
