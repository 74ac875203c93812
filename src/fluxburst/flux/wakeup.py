"""Ends a wait from another thread or from a signal handler."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections.abc import Iterator


class Wakeup:
    """A bell that any thread or signal handler can ring, and that poll(2) notices."""

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        for descriptor in (self._heard, self._rung):
            os.set_blocking(descriptor, False)
            weakref.finalize(self, os.close, descriptor)

    def fileno(self) -> int:
        """Return a file descriptor that is readable after a ring."""
        return self._heard

    def ring(self) -> None:
        """Ring it."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of earlier rings
            os.write(self._rung, b"!")

    def answer(self) -> bool:
        """Whether it rang since the last call."""
        try:
            return bool(os.read(self._heard, 65536))
        except BlockingIOError:
            return False

    @contextlib.contextmanager
    def rung_by_signals(self) -> Iterator[None]:
        """Make every signal with a Python handler ring it.

        Python runs handlers between two bytecodes: without the bell, a signal just before poll(2)
        would go unnoticed until the timeout. Only the main thread receives signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._rung, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
