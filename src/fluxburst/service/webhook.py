"""Posts JSON to a URL; messages never contain secrets from the URL or its headers.

Webhooks carry secrets in the path or the query, and headers carry tokens: errors name only the
scheme, the host and the port, and headers by name.
"""

from __future__ import annotations

import os
import re
import stat
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from fluxburst.errors import FluxburstError, RequestError
from fluxburst.formats.url import origin

_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[ -~\t]*)")
"""A field of RFC 9110, section 5: the name a token, the value in visible ASCII."""

_REASON_SHOWN = 80


class WebhookError(FluxburstError):
    """A URL could not be posted to, or did not answer with a status of 200 to 299."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as a failure: it would send the headers to another host, as a GET."""

    def redirect_request(
        self, req: object, fp: object, code: int, msg: str, headers: object, newurl: str
    ) -> None:
        return None


def read_headers(path: Path) -> dict[str, str]:
    """Read headers, such as ``Authorization``, from a file that only its owner can read.

    Each line is ``Name: value``; empty lines and lines that begin with ``#`` are skipped.

    Raises:
        RequestError: if the file is unreadable, if its group or others can read or write it, or
            if a line is not a header. The message contains no value.
    """
    try:
        with path.open("rb") as file:
            _check_private(path, file)
            text = file.read().decode("ascii")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not ASCII text") from None  # the cause would show its bytes
    headers: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _HEADER.fullmatch(line)
        if match is None:
            raise RequestError(f"{path}, line {number}: not a header, 'Name: value'")
        headers[match["name"]] = match["value"].strip()
    return headers


def _check_private(path: Path, file: IO[bytes]) -> None:
    mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    if mode & 0o077:
        raise RequestError(
            f"{path} has mode {mode:04o}, so others can access the secrets in it: chmod 600 it"
        )


def post(url: str, body: str, headers: Mapping[str, str], timeout: float) -> None:
    """Post JSON. Redirects are not followed; proxies of the environment are used.

    Args:
        url: A URL that :func:`~fluxburst.formats.url.check_url` accepts.
        body: The JSON.
        headers: Additional headers, beside ``Content-Type: application/json``.
        timeout: Seconds to wait for the connection, and for each part of the response.

    Raises:
        WebhookError: if it fails.
    """
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        url, body.encode(), {"Content-Type": "application/json", **headers}, method="POST"
    )
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        opener.open(request, timeout=timeout).close()
    except HTTPError as error:
        error.close()
        reason = f"{error.code} {error.reason}"[:_REASON_SHOWN]
        raise WebhookError(f"{origin(url)} answered with status {reason}") from None
    except URLError as error:
        raise WebhookError(f"cannot reach {origin(url)}: {error.reason}") from None
    except OSError as error:
        raise WebhookError(f"{origin(url)}: {error.strerror or error}") from None
    except HTTPException as error:  # its text may contain the path
        raise WebhookError(f"{origin(url)}: {type(error).__name__}") from None
