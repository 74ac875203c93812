"""Connections to a live instance: one for each thread, and others for streams of events."""

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

    One on which something went wrong is not used again: what is asked next opens a new one to the
    same URI, so the instance may go away and come back.

    Args:
        handle: A ``flux.Flux`` of the thread that passes it; by default the instance is the one
            that ``FLUX_URI`` names when it is first used.
    """

    def __init__(self, handle: Any = None) -> None:
        self._given, self._given_to = handle, threading.get_ident()
        self._given_failed = False
        self._uri = None if handle is None else _local_uri(handle)
        self._reached = False
        self._of_thread = threading.local()

    @property
    def handle(self) -> Any:
        """The ``flux.Flux`` that this thread talks through.

        Raises:
            FluxUnavailableError: if there is no Flux, or none that answers.
            FluxVersionError: if it is too old or does not match its binding.
            InstanceError: if it answered earlier and does not now.
        """
        return self._connection("for its version")[0]

    @contextmanager
    def asking(self, what: str) -> Iterator[Requests]:
        """Lend this thread's connection; let go of it, and raise one clear error, if that fails.

        Answers may still be under way then, also where it was left by Ctrl-C.
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
            what: What the instance is to be asked on it, for messages.
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
        """Check that the instance takes this process for its owner, or that it is the owner's.

        Raises:
            NotOwnerError: if that is not so, with what can be done.
        """
        with self.asking("who its owner is") as requests:
            access.check_owner(requests, to_act=to_act)

    def close(self) -> None:
        """Let go of every thread's connection; the handle that was passed in stays open."""
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
                pass  # it is of an instance that cannot be reached from here under its local URI
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
            return InstanceError(f"the Flux instance was asked {what}, but is away: {problem}")
        return FluxUnavailableError(
            f"no Flux answers ({problem}); run this inside a Flux instance, or set FLUX_URI, or "
            "use an embedded instance (--mock)"
        )


def _local_uri(handle: Any) -> str:
    """Return the URI under which other threads find a handle's instance, empty for none."""
    try:
        return str(handle.attr_get("local-uri"))
    except OSError:
        return ""


def answered(what: str, error: OSError) -> InstanceError:
    """Return the error for a question that the instance answered with one."""
    return InstanceError(
        f"the Flux instance was asked {what} and answered: {error.strerror or error}"
    )
