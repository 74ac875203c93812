"""URLs to post to; only scheme, host and port of one may be shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from fluxburst.errors import FormatError

_VISIBLE = re.compile(r"[!-~]+")


def check_url(url: str) -> None:
    """Check that a URL is suitable for posting.

    Raises:
        FormatError: if it is not an http or https URL, or contains a user name or a password.
    """
    expected = "an http:// or https:// URL with a host, in ASCII"
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise FormatError(origin(url), expected)
    if "@" in parts.netloc:
        raise FormatError(origin(url), f"{expected}, no user name: use headers_file")


def origin(url: str) -> str:
    """Return the parts of a URL that may be shown: scheme, host and port."""
    parts = _split(url)
    if parts is None or not parts.scheme or not parts.netloc:
        return "the URL"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts if _VISIBLE.fullmatch(url) and port != 0 else None
