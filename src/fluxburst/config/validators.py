"""Parameter checks shared by plugins."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from fluxburst.errors import RequestError
from fluxburst.formats.units import format_duration

LONGEST_REQUEST_SECONDS = 86400.0
"""A request longer than a day is treated as a mistake."""

_ENDPOINT = re.compile(
    r"(?P<scheme>https?://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?"
)

P = TypeVar("P")


def run_checks(checks: Mapping[str, Callable[[P], None]], params: P) -> Iterator[tuple[str, str]]:
    """Yield the field and the problem of each check that raises a RequestError."""
    for field, check in checks.items():
        try:
            check(params)
        except RequestError as error:
            yield field, str(error)


def check_log_level(level: int) -> None:
    """Check that a broker's log level exists (severities of RFC 5424).

    Raises:
        RequestError: if it does not.
    """
    if not 0 <= level <= 7:
        raise RequestError(f"must be from 0 (emergency) to 7 (debug), got {level}")


def check_port(port: int | None) -> None:
    """Check a TCP port, if set.

    Raises:
        RequestError: if it is invalid.
    """
    if port is not None and not 1 <= port <= 65535:
        raise RequestError(f"{port} is not a TCP port")


def check_price(price: float) -> None:
    """Check a price.

    Raises:
        RequestError: if it is negative, infinite or not a number.
    """
    if not 0 <= price < math.inf:
        raise RequestError(f"must be a number of 0 or more, got {price}")


def check_interval(seconds: float) -> None:
    """Check a polling interval.

    Raises:
        RequestError: if it is not positive, or infinite.
    """
    if not 0 < seconds < math.inf:
        raise RequestError("must be positive and finite")


def check_readable(path: Path | None) -> None:
    """Check that a file is readable, if set.

    Raises:
        RequestError: if it is not.
    """
    try:
        if path is not None:
            path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # it has a NUL
        raise RequestError(f"{str(path)!r} is not a path") from error


def check_request_timeout(seconds: float) -> None:
    """Check a timeout for a provider's answers.

    Raises:
        RequestError: if it is not positive, or implausibly long.
    """
    if not 0 < seconds <= LONGEST_REQUEST_SECONDS:
        most = format_duration(LONGEST_REQUEST_SECONDS)
        raise RequestError(f"must be positive, and {most} at most")


def check_endpoint(endpoint: str | None, *, url: bool) -> None:
    """Check the address of an API, if set.

    Args:
        endpoint: A URL of HTTP, or a host with or without a port.
        url: It must be a URL.

    Raises:
        RequestError: if it is invalid.
    """
    if endpoint is None:
        return
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or (url and not match["scheme"]):
        kind = "a URL, such as https://api.example.org" if url else "a URL or a host"
        raise RequestError(f"{endpoint!r} is not {kind}")
