"""Many requests at once to a Flux broker, through the C functions that flux-python binds.

flux-python's own objects make a reactor and swap a signal handler for every answer, which costs
several times what the request does; with thousands of jobs that is the larger part of a pass.
See flux_rpc(3) and flux_future_wait_for(3).
"""

from __future__ import annotations

import errno
import importlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

ANY_NODE = 0xFFFFFFFF
STREAMING, NO_RESPONSE = 2, 1
"""``FLUX_RPC_STREAMING`` and ``FLUX_RPC_NORESPONSE``."""

SLICE_SECONDS = 0.5
"""How long to wait at a stretch: in between, Python looks at its signals."""

PATIENCE_SECONDS = 60.0
"""How long to wait for one answer before the broker is taken for hung."""


class Requests:
    """Sends requests over one ``flux.Flux``.

    What goes wrong is an ``OSError`` with Flux's own text; an answer that does not come is a
    ``TimeoutError``.
    """

    def __init__(self, handle: Any) -> None:
        core = importlib.import_module("flux.core.inner")
        self._ffi, self._lib = core.ffi, core.lib
        self._handle = handle
        self._text = self._ffi.new("char *[1]")

    def ask(self, topic: str, payload: Any, *, nodeid: int = ANY_NODE) -> Any:
        """Send one request and return its answer."""
        future = self._send(topic, payload, nodeid, 0)
        try:
            return self._answer(future, PATIENCE_SECONDS)
        finally:
            self._lib.flux_future_destroy(future)

    def ask_all(
        self, topic: str, payloads: Iterable[Any], *, patience: float | None = PATIENCE_SECONDS
    ) -> Iterator[Any | OSError]:
        """Send all requests, then yield their answers in order; a refusal is yielded, too.

        Args:
            topic: The service's topic.
            payloads: What each request carries.
            patience: Seconds to wait for each answer; None for as long as it takes.

        Raises:
            TimeoutError: if an answer does not come.
        """
        futures = [self._send(topic, payload, ANY_NODE, 0) for payload in payloads]
        futures.reverse()
        try:
            while futures:
                try:
                    yield self._answer(futures[-1], patience)
                except TimeoutError:
                    raise
                except OSError as error:
                    yield error
                # At once, not at the end: a future that was waited for holds a file descriptor.
                self._lib.flux_future_destroy(futures.pop())
        finally:
            for future in futures:
                self._lib.flux_future_destroy(future)

    def stream(self, topic: str, payload: Any, *, cancel: str = "") -> Iterator[Any]:
        """Send one streaming request and yield its answers to their end.

        Where the caller stops early, ``cancel`` is the topic that ends the stream.
        """
        future = self._send(topic, payload, ANY_NODE, STREAMING)
        ended = False
        try:
            while True:
                try:
                    answer = self._answer(future, PATIENCE_SECONDS)
                except OSError as error:
                    ended = True
                    if error.errno == errno.ENODATA:
                        return
                    raise
                yield answer
                self._lib.flux_future_reset(future)
        finally:
            if cancel and not ended:
                self._cancel(future, cancel)
            self._lib.flux_future_destroy(future)

    def _cancel(self, future: Any, topic: str) -> None:
        """End a stream, and read what was under way."""
        matchtag = self._lib.flux_rpc_get_matchtag(future)
        request = self._send(topic, {"matchtag": matchtag}, ANY_NODE, NO_RESPONSE)
        self._lib.flux_future_destroy(request)
        try:
            while True:
                self._lib.flux_future_reset(future)
                self._answer(future, PATIENCE_SECONDS)
        except OSError:
            return

    def _send(self, topic: str, payload: Any, nodeid: int, flags: int) -> Any:
        future = self._lib.flux_rpc(
            self._handle.handle, topic.encode(), json.dumps(payload).encode(), nodeid, flags
        )
        if future == self._ffi.NULL:
            raise OSError(self._ffi.errno, os.strerror(self._ffi.errno))
        return future

    def _answer(self, future: Any, patience: float | None) -> Any:
        waited = 0.0
        while self._lib.flux_future_wait_for(future, SLICE_SECONDS) < 0:
            if self._ffi.errno != errno.ETIMEDOUT:
                break  # what it is, the next call says
            waited += SLICE_SECONDS
            if patience is not None and waited >= patience:
                raise TimeoutError(errno.ETIMEDOUT, f"no answer within {patience:.0f} seconds")
        if self._lib.flux_rpc_get(future, self._text) < 0:
            number = self._ffi.errno
            text = self._lib.flux_future_error_string(future)
            known = text != self._ffi.NULL
            raise OSError(number, self._ffi.string(text).decode() if known else os.strerror(number))
        if self._text[0] == self._ffi.NULL:
            return None
        return json.loads(self._ffi.string(self._text[0]))
