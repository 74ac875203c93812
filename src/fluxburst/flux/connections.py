"""Connections to a live instance: one for each thread, and others for event streams."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fluxburst.errors import FluxUnavailableError, InstanceError
from fluxburst.flux import access
from fluxburst.flux.binding import binding_version, check_versions, import_flux
from fluxburst.flux.rpc import Channel, Requests


class Connections:
    """The connections to one instance.

    A connection that failed is not used again: the next request opens a new one to the same URI,
    so the instance may go away and come back.

    Args:
        handle: A ``flux.Flux`` of the calling thread; by default the instance in ``FLUX_URI`` on
            first use.
    """

    def __init__(self, handle: Any = None) -> None:
        self._given, self._given_to = handle, threading.get_ident()
        self._given_failed = False
        self._uri = None if handle is None else _local_uri(handle)
        self._reached = False
        self._of_thread = threading.local()

    @property
    def handle(self) -> Any:
        """The ``flux.Flux`` of this thread.

        Raises:
            FluxUnavailableError: if there is no Flux, or it does not answer.
            FluxVersionError: if it is too old or does not match its binding.
            InstanceError: if it answered before but does not now.
        """
        return self._connection("for its version")[0]

    @contextmanager
    def asking(self, what: str) -> Iterator[Requests]:
        """Lend this thread's connection; on failure, close it and raise one clear error.

        Answers may still be on their way then, also after Ctrl-C.
        """
        connections = self._of_thread
        requests = Requests(self._connection(what)[1])
        try:
            yield requests
        except BaseException as error:
            connections.__dict__.pop("connection", None)
            self._given_failed = True
            if isinstance(error, OSError):
                raise answered(what, error) from error
            raise

    def open(self, what: str) -> Any:
        """Open another handle to the instance.

        Args:
            what: What the instance will be asked, for messages.
        """
        flux = import_flux()
        uri = os.environ.get("FLUX_URI", "") if self._uri is None else self._uri
        try:
            handle = flux.Flux(uri) if uri else flux.Flux()
        except OSError as error:
            raise self._unavailable(error, what) from error
        self._checked(handle, what)
        self._uri = uri
        return handle

    def check_owner(self, *, to_act: bool = False) -> None:
        """Check that the instance treats this process as its owner, or that it is the owner's.

        Raises:
            NotOwnerError: if not; the message has advice.
        """
        with self.asking("who its owner is") as requests:
            access.check_owner(requests, to_act=to_act)

    def close(self) -> None:
        """Close every thread's connection; a handle passed in stays open."""
        self._of_thread = threading.local()

    def _connection(self, what: str) -> tuple[Any, Channel]:
        """Return this thread's handle and channel."""
        connection: tuple[Any, Channel] | None = getattr(self._of_thread, "connection", None)
        if connection is not None and connection[1].is_closed():
            connection, self._given_failed = None, True
        if connection is None:
            handle = self._handle_of_thread(what)
            connection = self._of_thread.connection = (handle, Channel(handle))
        return connection

    def _handle_of_thread(self, what: str) -> Any:
        given = self._given if self._given_to == threading.get_ident() else None
        if given is None:
            return self.open(what)
        if self._given_failed:
            try:
                return self.open(what)
            except (InstanceError, FluxUnavailableError):
                pass  # its instance cannot be reached from here under its local URI
        return self._checked(given, what)

    def _checked(self, handle: Any, what: str) -> Any:
        try:
            check_versions(str(handle.attr_get("version")), binding_version())
        except OSError as error:
            raise self._unavailable(error, what) from error
        self._reached = True
        return handle

    def _unavailable(self, error: OSError, what: str) -> Exception:
        refused = access.refused(error)
        if refused is not None:
            return refused
        problem = error.strerror or str(error)
        if self._reached:
            return InstanceError(f"the Flux instance is away (asked {what}): {problem}")
        return FluxUnavailableError(
            f"no Flux answers ({problem}); run this inside a Flux instance, or set FLUX_URI, or "
            "use an embedded instance (--mock)"
        )


def _local_uri(handle: Any) -> str:
    """Return the URI for other threads to reach a handle's instance, empty if there is none."""
    try:
        return str(handle.attr_get("local-uri"))
    except OSError:
        return ""


def answered(what: str, error: OSError) -> InstanceError:
    """Return the exception for an error response of the instance."""
    return InstanceError(
        f"the Flux instance was asked {what} and answered: {error.strerror or error}"
    )
