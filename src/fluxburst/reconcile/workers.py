"""Calls of plugins, in one thread per plugin, so that a slow plugin delays no other.

A plugin's calls run one after another, in the order of their start; their answers are processed in
the client's own thread. A thread cannot be stopped: a call that times out is given up, its plugin
is stuck until the call returns, and its answer is processed then.
"""

from __future__ import annotations

import concurrent.futures
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from fluxburst.errors import FluxburstError
from fluxburst.formats.units import format_duration
from fluxburst.plugin.base import as_burst_error

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done(Generic[T]):
    """A call that returned.

    Attributes:
        value: What it returned.
    """

    value: T


@dataclass(frozen=True)
class Failed:
    """A call that raised.

    Attributes:
        raised: What it raised; a provider's library may raise anything.
    """

    raised: BaseException

    def error(self) -> Exception:
        """Return the exception, as a failure of the plugin.

        Raises:
            BaseException: the exception itself, if it is no failure but interrupts the client.
        """
        if not isinstance(self.raised, Exception):
            raise self.raised
        return self.raised


@dataclass(frozen=True)
class TimedOut:
    """A call that timed out.

    Attributes:
        why: The message.
    """

    why: str


Answer: TypeAlias = Done[T] | Failed | TimedOut
"""The result of a call."""


@dataclass
class Call(Generic[T]):
    """One call of a plugin.

    Attributes:
        plugin: The plugin's name.
        what: The method, for people.
        timeout: Its timeout, in seconds.
        run: Makes the call, in the plugin's thread.
        on_answer: Processes the result, in the client's thread. A call that timed out may still
            return: then it is called a second time.
        bursts: The names of the bursts concerned.
    """

    plugin: str
    what: str
    timeout: float
    run: Callable[[], T]
    on_answer: Callable[[Answer[T]], None]
    bursts: frozenset[str] = frozenset()
    future: concurrent.futures.Future[T] = field(default_factory=concurrent.futures.Future)
    began: float | None = None
    late: bool = False
    waited_for: bool = False

    @property
    def overdue(self) -> bool:
        """Whether it has exceeded its timeout."""
        return self.began is not None and time.monotonic() - self.began >= self.timeout

    @property
    def silence(self) -> str:
        """The message while it does not return."""
        seconds = 0.0 if self.began is None else time.monotonic() - self.began
        return f"{self.what} has not answered for {format_duration(round(seconds, 1))}"


class _Worker:
    """The thread of one plugin."""

    def __init__(self, name: str, done: Callable[[], None]) -> None:
        self._calls: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._done = done
        self._thread = threading.Thread(target=self._work, name=f"fluxburst-{name}", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        return self._thread is threading.current_thread()

    def put(self, call: Call[Any] | None) -> None:
        self._calls.put(call)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _work(self) -> None:
        while self._make_next_call():
            pass

    def _make_next_call(self) -> bool:
        """Make the next call, once there is one; False at the end. Keeps no reference to it."""
        call = self._calls.get()
        if call is None:
            return False
        if call.future.set_running_or_notify_cancel():  # not given up while queued
            call.began = time.monotonic()
            try:
                call.future.set_result(call.run())
            except BaseException as error:  # noqa: BLE001 - raised where the answer is processed
                call.future.set_exception(_as_failure(error, call.plugin))
            self._done()
        return True


class PluginWorkers:
    """The threads of all plugins.

    Args:
        wake: Called, in any thread, when a call returns while nothing waits for it.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._workers: dict[str, _Worker] = {}
        self._calls: list[Call[Any]] = []
        self._waiting = False

    def start(self, call: Call[Any]) -> None:
        """Queue a call."""
        if call.plugin not in self._workers:
            self._workers[call.plugin] = _Worker(call.plugin, self._wake_unless_waiting)
        self._calls.append(call)
        self._workers[call.plugin].put(call)

    @property
    def here(self) -> bool:
        """Whether the current thread is one of these."""
        return any(worker.is_here for worker in list(self._workers.values()))

    @property
    def in_flight(self) -> frozenset[str]:
        """The bursts of calls that have not been processed."""
        return frozenset(name for call in self._calls for name in call.bursts)

    def busy(self, plugin: str) -> bool:
        """Whether a call of a plugin has not been processed."""
        return any(call.plugin == plugin for call in self._calls)

    def stuck(self) -> dict[str, str]:
        """Return the plugins with a timed-out call that has not returned, with the message."""
        return {call.plugin: call.silence for call in self._calls if call.late}

    def wait(self, patience: float) -> None:
        """Process the calls that return within ``patience`` seconds, and give up overdue ones.

        Without a limit, waits for all calls; otherwise waits for each only once: a slow call must
        not delay every pass, and wakes the instance when it returns.

        Raises:
            BaseException: from processing an answer; other calls may be unprocessed then.
        """
        self._waiting = True
        try:
            self._wait(patience)
        finally:
            self._waiting = False
            for call in self._calls if patience else ():
                call.waited_for = True
            if any(call.future.done() for call in self._calls):  # since the last check
                self._wake()

    def _wait(self, patience: float) -> None:
        until = time.monotonic() + patience
        while True:
            self._settle()
            new = [c for c in self._calls if patience == math.inf or not c.waited_for]
            waiting = [call for call in new if not call.late]
            left = until - time.monotonic()
            if not waiting or left <= 0:
                return
            due = [call.began + call.timeout for call in waiting if call.began is not None]
            pause = min([left, *(max(0.0, when - time.monotonic()) for when in due), 1.0])
            futures = [call.future for call in waiting]
            concurrent.futures.wait(futures, pause, return_when=concurrent.futures.FIRST_COMPLETED)

    def close(self, patience: float = 1.0) -> None:
        """End the threads, except one whose plugin does not answer."""
        for worker in self._workers.values():
            worker.put(None)
        for worker in self._workers.values():
            worker.join(patience)
        self._workers.clear()
        self._calls.clear()

    def _wake_unless_waiting(self) -> None:
        if not self._waiting:
            self._wake()

    def _settle(self) -> None:
        for call in self._answered():
            self._calls.remove(call)
            _take(call, _answer_of(call.future))
        late = {call.plugin: call for call in self._calls if call.late or call.overdue}
        for call in [call for call in self._calls if call.plugin in late and not call.late]:
            call.late = True
            if call.future.cancel():  # it is queued behind a stuck call
                self._calls.remove(call)
            call.on_answer(TimedOut(late[call.plugin].silence))

    def _answered(self) -> Iterator[Call[Any]]:
        """Yield the calls that have returned, in order of their start."""
        for call in list(self._calls):
            if call.future.done() and call in self._calls:
                yield call


def _answer_of(future: concurrent.futures.Future[T]) -> Answer[T]:
    raised = future.exception()
    return Done(future.result()) if raised is None else Failed(raised)


def _take(call: Call[T], answer: Answer[T]) -> None:
    """Process an answer; an invalid one is a failure of its plugin only."""
    try:
        call.on_answer(answer)
    except FluxburstError:
        raise
    except Exception as error:
        if not isinstance(answer, Done):
            raise
        _log.exception(
            "plugin %s: cannot process the answer of %s",
            call.plugin,
            call.what,
            extra={"plugin": call.plugin},
        )
        call.on_answer(Failed(as_burst_error(error, call.plugin)))


def _as_failure(error: BaseException, plugin: str) -> BaseException:
    """Return a plugin's exception; even one that would end a thread is only its failure."""
    passes = isinstance(error, (Exception, KeyboardInterrupt))
    return error if passes else as_burst_error(error, plugin)


def names_of(bursts: Collection[Any]) -> frozenset[str]:
    """Return the names of bursts."""
    return frozenset(burst.name for burst in bursts)
