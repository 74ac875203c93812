"""Reports the service's state to systemd: the protocol of sd_notify(3), without a library.

Every function does nothing if ``NOTIFY_SOCKET`` is not set, that is, outside a systemd unit of
``Type=notify``. None of them raises: a service manager that does not listen is logged, and is
no reason to stop. ``docs/fluxburst.service`` is a suitable unit.

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
"""How long an unresponsive service manager may delay the service."""


def ready() -> None:
    """Report that the service has started, or has reloaded its configuration (``READY=1``)."""
    _send("READY=1")


def reloading() -> None:
    """Report that a reload of the configuration begins; :func:`ready` reports its end.

    Includes the time of the monotonic clock, as ``Type=notify-reload`` requires.
    """
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    _send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")


def stopping() -> None:
    """Report that the service is stopping (``STOPPING=1``)."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """Set the line that ``systemctl status`` shows; line breaks become spaces."""
    _send(f"STATUS={' '.join(text.split())}")


def watchdog() -> None:
    """Report that the service is alive (``WATCHDOG=1``)."""
    _send("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Return the interval in seconds to call :func:`watchdog`; None without a watchdog.

    It is half of the unit's ``WatchdogSec=``, as sd_watchdog_enabled(3) recommends. A limit
    meant for another process, such as the parent, does not count.
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
        _log.warning("could not report %s to the service manager: %s", what, error)
