"""Concurrent requests to a Flux broker, through the C functions that flux-python binds.

flux-python's own objects create a reactor and swap a signal handler for every answer, and
flux_future_wait_for(3) requeues every other answer on its way; with thousands of jobs that is the
larger part of a pass. Here messages are read in order of arrival and matched by matchtag
(RFC 6), and the waiting is done in Python, where signals are handled at once.
See flux_rpc(3), flux_recv(3) and flux_pollevents(3).
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import select
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any

ANY_NODE = 0xFFFFFFFF
STREAMING, NO_RESPONSE = 2, 1
"""``FLUX_RPC_STREAMING`` and ``FLUX_RPC_NORESPONSE``."""

RESPONSE = 2
"""``FLUX_MSGTYPE_RESPONSE``."""

PATIENCE_SECONDS = 60.0
"""How long to wait for a next answer before the broker counts as hung."""


class Disconnected(ConnectionError):  # noqa: N818 - an event rather than an error
    """The broker went away: nothing more can be sent or received over this handle."""


class Channel:
    """Messages to and from a broker over one ``flux.Flux``.

    Responses to other users of the handle are left to them. After an exception, answers to earlier
    requests may still arrive, so discard the handle.
    """

    def __init__(self, handle: Any) -> None:
        core = importlib.import_module("flux.core.inner")
        self._ffi, self._lib = core.ffi, core.lib
        self._owner = handle  # which closes the handle when it is released
        self._handle = handle.handle
        self._streams: dict[int, bool] = {}
        self._foreign: list[Any] = []
        self._text = self._ffi.new("char *[1]")
        self._tag = self._ffi.new("uint32_t[1]")
        self._match = self._ffi.new("struct flux_match *", {"typemask": RESPONSE})[0]
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Return a file descriptor that turns readable when :meth:`readable` should be called."""
        descriptor = int(self._lib.flux_pollfd(self._handle))
        if descriptor < 0:
            raise self._disconnected()
        return descriptor

    def send(self, topic: str, payload: Any, *, nodeid: int = ANY_NODE, flags: int = 0) -> int:
        """Send a request and return the matchtag of its answers, 0 if it gets none.

        Raises:
            Disconnected: if the broker is gone.
        """
        future = self._lib.flux_rpc(
            self._handle, topic.encode(), json.dumps(payload).encode(), nodeid, flags
        )
        if future == self._ffi.NULL:
            raise self._disconnected()
        tag = int(self._lib.flux_rpc_get_matchtag(future))
        # An unfulfilled future leaves its matchtag to the reader of the answers.
        self._lib.flux_future_destroy(future)
        if not flags & NO_RESPONSE:
            self._streams[tag] = bool(flags & STREAMING)
        return tag

    def receive(self) -> tuple[int, Any | OSError] | None:
        """Return a matchtag and its answer or error; None if nothing more has arrived.

        Raises:
            Disconnected: if the broker is gone.
        """
        while True:
            message = self._lib.flux_recv(self._handle, self._match, self._lib.FLUX_O_NONBLOCK)
            if message == self._ffi.NULL:
                if self._ffi.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    return None
                raise self._disconnected()
            self._lib.flux_msg_get_matchtag(message, self._tag)
            tag = self._tag[0]
            if tag not in self._streams:
                self._foreign.append(message)
                continue
            try:
                answer = self._decoded(message)
            finally:
                self._lib.flux_msg_decref(message)
            if isinstance(answer, OSError) or not self._streams[tag]:
                del self._streams[tag]
                self._lib.flux_matchtag_free(self._handle, tag)
            return tag, answer

    def readable(self) -> bool:
        """Whether there is something to receive; resets the signal of :meth:`fileno`.

        Raises:
            Disconnected: if the broker is gone.
        """
        events = self._lib.flux_pollevents(self._handle)
        if events >= 0 and events & self._lib.FLUX_POLLIN:
            return True
        if events < 0 or events & self._lib.FLUX_POLLERR:
            raise Disconnected(errno.ECONNRESET, "the broker closed the connection")
        return False

    def is_closed(self) -> bool:
        """Whether the broker is known to be gone."""
        events = self._lib.flux_pollevents(self._handle)
        return bool(events < 0 or events & self._lib.FLUX_POLLERR)

    def wait(self, seconds: float | None) -> bool:
        """Wait until there is something to receive; False on timeout.

        Args:
            seconds: The timeout; None for unlimited.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not self.readable():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._poll.poll(None if left is None else left * 1000)
        return True

    def give_back(self) -> None:
        """Return foreign responses to the handle for their receivers."""
        for message in self._foreign:
            self._lib.flux_requeue(self._handle, message, self._lib.FLUX_RQ_TAIL)
            self._lib.flux_msg_decref(message)
        self._foreign.clear()

    def _decoded(self, message: Any) -> Any | OSError:
        if self._lib.flux_response_decode(message, self._ffi.NULL, self._text) < 0:
            number = self._ffi.errno
            known = self._lib.flux_response_decode_error(message, self._text) == 0
            text = self._ffi.string(self._text[0]).decode() if known else os.strerror(number)
            return OSError(number, text)
        if self._text[0] == self._ffi.NULL:
            return None
        return json.loads(self._ffi.string(self._text[0]).decode())

    def _disconnected(self) -> Disconnected:
        number = self._ffi.errno
        return Disconnected(number, os.strerror(number))


class Requests:
    """Sends requests over one channel and waits for their answers.

    Failures are an ``OSError`` with Flux's own text; a missing answer is a ``TimeoutError``, a
    broker that is gone :class:`Disconnected`.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def ask(self, topic: str, payload: Any, *, nodeid: int = ANY_NODE) -> Any:
        """Send one request and return its answer."""
        wanted = self._channel.send(topic, payload, nodeid=nodeid)
        try:
            while True:
                tag, answer = self._next(PATIENCE_SECONDS)
                if tag == wanted:
                    break
        finally:
            self._channel.give_back()
        if isinstance(answer, OSError):
            raise answer
        return answer

    def ask_all(
        self, topic: str, payloads: Iterable[Any], *, patience: float | None = PATIENCE_SECONDS
    ) -> Iterator[Any | OSError]:
        """Send all requests, then yield their answers in order; errors are yielded, too.

        Args:
            topic: The service's topic.
            payloads: The payload of each request.
            patience: Seconds to wait for a next answer; None for unlimited.

        Raises:
            TimeoutError: if no answer comes.
        """
        return self.ask_each(((topic, payload, ANY_NODE) for payload in payloads), patience)

    def ask_each(
        self,
        requests: Iterable[tuple[str, Any, int]],
        patience: float | None = PATIENCE_SECONDS,
    ) -> Iterator[Any | OSError]:
        """Send requests to several services, like :meth:`ask_all`.

        Args:
            requests: The topic, the payload, and the destination rank.
            patience: Seconds to wait for a next answer; None for unlimited.

        Raises:
            TimeoutError: if no answer comes.
        """
        tags = [self._channel.send(topic, load, nodeid=rank) for topic, load, rank in requests]
        answers: dict[int, Any | OSError] = {}
        for wanted in tags:
            while wanted not in answers:
                tag, answer = self._next(patience)
                answers[tag] = answer
            yield answers.pop(wanted)
        self._channel.give_back()

    def stream(self, topic: str, payload: Any, *, cancel: str = "") -> Generator[Any, None, None]:
        """Send one streaming request and yield its answers to their end.

        If the caller stops early, the topic ``cancel`` ends the stream.
        """
        wanted = self._channel.send(topic, payload, flags=STREAMING)
        ended = False
        try:
            while True:
                tag, answer = self._next(PATIENCE_SECONDS)
                if tag != wanted:
                    continue
                if isinstance(answer, OSError):
                    ended = True
                    if answer.errno == errno.ENODATA:
                        return
                    raise answer
                yield answer
        except GeneratorExit:
            if cancel and not ended:
                self._cancel(wanted, cancel)
            raise
        finally:
            self._channel.give_back()

    def _cancel(self, wanted: int, topic: str) -> None:
        """End a stream, and read what was on its way."""
        self._channel.send(topic, {"matchtag": wanted}, flags=NO_RESPONSE)
        while True:
            tag, answer = self._next(PATIENCE_SECONDS)
            if tag == wanted and isinstance(answer, OSError):
                return

    def _next(self, patience: float | None) -> tuple[int, Any | OSError]:
        while True:
            found = self._channel.receive()
            if found is not None:
                return found
            if not self._channel.wait(patience):
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {patience:.0f} seconds")
