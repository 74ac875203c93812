"""Telling the service manager how a service is: the protocol of sd_notify(3), without a library.

Every function does nothing where ``NOTIFY_SOCKET`` is not set, that is outside of a systemd unit
of ``Type=notify``. None of them raises: a service manager that does not listen is logged, and is
no reason to stop. A unit that fits is in ``docs/fluxburst.service``.

The packages on PyPI do less or need more: sdnotify knows neither the watchdog's interval nor
``MONOTONIC_USEC``, reads the environment once and swallows every exception; systemd-python and
cysystemd are bindings that must be compiled against libsystemd. The protocol is stable by systemd's
Portability and Stability promise.
"""

from __future__ import annotations

import logging
import os
import socket
import time

_log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 1.0
"""How long a service manager that does not read may hold the service up."""


def ready() -> None:
    """Say that the service has started, or has reread its configuration (``READY=1``)."""
    _send("READY=1")


def reloading() -> None:
    """Say that the configuration is being reread; :func:`ready` says that this is done.

    Sends the time of the monotonic clock with it, as ``Type=notify-reload`` asks for.
    """
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")


def stopping() -> None:
    """Say that the service is on its way out (``STOPPING=1``)."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """Set the line that ``systemctl status`` shows; line breaks become spaces."""
    _send(f"STATUS={' '.join(text.split())}")


def watchdog() -> None:
    """Say that the service is alive (``WATCHDOG=1``)."""
    _send("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Return every how many seconds to call :func:`watchdog`; None if nobody waits for it.

    It is half of the unit's ``WatchdogSec=``, as sd_watchdog_enabled(3) recommends. A limit that
    was set for another process, such as the one that started this one, is not ours.
    """
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6 / 2


def _send(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket, unix(7)
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.settimeout(_PATIENCE_SECONDS)
            connection.connect(address)
            connection.sendall(state.encode(errors="replace"))
    except OSError as error:
        what = state.partition("=")[0]
        _log.warning("the service manager could not be told %s: %s", what, error)
