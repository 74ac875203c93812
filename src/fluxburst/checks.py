"""Checks of parameters that plugins for providers have in common."""

from __future__ import annotations

import re

from fluxburst.errors import RequestError
from fluxburst.quantities import format_duration

LONGEST_REQUEST_SECONDS = 86400.0
"""A request that may take longer than a day is taken for a mistake."""

_ENDPOINT = re.compile(
    r"(?P<scheme>https?://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?"
)


def check_request_timeout(seconds: float) -> None:
    """Check that a provider can be given so long to answer.

    Raises:
        RequestError: if that is no time, or longer than anybody means.
    """
    if not 0 < seconds <= LONGEST_REQUEST_SECONDS:
        most = format_duration(LONGEST_REQUEST_SECONDS)
        raise RequestError(f"must be more than no time, and {most} at most")


def check_endpoint(endpoint: str | None, *, url: bool) -> None:
    """Check that something can be where an API is asked, where it is given.

    Args:
        endpoint: A URL of HTTP, or a host with or without a port.
        url: It must be a URL.

    Raises:
        RequestError: if it is not.
    """
    if endpoint is None:
        return
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or (url and not match["scheme"]):
        kind = "a URL, such as https://api.example.org" if url else "a URL or a host"
        raise RequestError(f"{endpoint!r} is not {kind}")
