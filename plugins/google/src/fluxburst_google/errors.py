"""Translates Google's errors into errors with advice.

Google's clients raise a ``GoogleAPICallError`` for a refused request, with the same classes for
REST and gRPC (https://google.aip.dev/193). An accepted operation that fails later has codes such
as ``ZONE_RESOURCE_POOL_EXHAUSTED`` instead
(https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation).
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fluxburst.errors import (
    AuthError,
    BurstError,
    CapacityError,
    QuotaError,
    UnreachableError,
    text_of,
)

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError

CAPACITY_CODES = frozenset(
    {
        "GCE_STOCKOUT",
        "RESOURCE_POOL_EXHAUSTED",
        "STOCKOUT",
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "resource_availability",
    }
)
QUOTA_CODES = frozenset(
    {"GCE_QUOTA_EXCEEDED", "LIMIT_EXCEEDED", "QUOTA_EXCEEDED", "limitExceeded", "quotaExceeded"}
)
AUTH_CODES = frozenset(
    {
        "ACCESS_TOKEN_EXPIRED",
        "CREDENTIALS_MISSING",
        "IAM_PERMISSION_DENIED",
        "PERMISSIONS_ERROR",
        "SERVICE_DISABLED",
        "accessNotConfigured",
        "authError",
        "forbidden",
    }
)
BUSY_CODES = frozenset(
    {"RATE_LIMIT_EXCEEDED", "rateLimitExceeded", "userRateLimitExceeded", "concurrentLimitExceeded"}
)
EXISTS_CODES = frozenset({"RESOURCE_ALREADY_EXISTS", "alreadyExists", "duplicate"})
NOT_FOUND_CODES = frozenset({"RESOURCE_NOT_FOUND", "notFound"})

_PERMISSION = re.compile(r"\b([a-z]+(?:\.[a-zA-Z]+){2,})\b")
_STATUS_CODES = {401: "authError", 403: "forbidden", 404: "notFound", 409: "alreadyExists"}
_STATUS_CODES |= {429: "rateLimitExceeded"}


class GoogleFailure(BurstError):  # noqa: N818 - Google's "error" has its own class
    """Any other error of Google; ``code`` is Google's code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(GoogleFailure):
    """Something does not exist: an instance, a network, an image, or the project."""


class ExistsError(GoogleFailure):
    """Something of that name already exists."""


class BusyError(GoogleFailure):
    """Too many requests, or an overloaded service: retry.

    ``retry_after`` is Google's requested wait in seconds; None if it gives none.
    """

    def __init__(self, message: str, code: str, retry_after: float | None) -> None:
        super().__init__(message, code)
        self.retry_after = retry_after


class AwayError(BusyError, UnreachableError):
    """A service is temporarily unavailable or unreachable: retry."""


def from_code(code: str, message: str, doing: str) -> BurstError:
    """Return the error for the code of an operation or a request.

    Args:
        code: Such as ``QUOTA_EXCEEDED``.
        message: Its text.
        doing: The request, such as ``create the instances of x``.
    """
    said = f"Google refused to {doing}: {message or code}"
    if code in CAPACITY_CODES:
        return CapacityError(said)
    if code in QUOTA_CODES:
        return QuotaError(said)
    if code in AUTH_CODES:
        return AuthError(f"{said}{_advice(code, message)}")
    if code in EXISTS_CODES:
        return ExistsError(said, code)
    if code in NOT_FOUND_CODES:
        return NotFoundError(said, code)
    if code in BUSY_CODES:
        return BusyError(f"too many requests to Google to {doing}: {message or code}", code, None)
    return GoogleFailure(said if code in said else f"{said} ({code})", code)


def as_error(error: BaseException, doing: str) -> BurstError:
    """Return an exception of a Google client as an error with advice.

    Args:
        error: The exception, of REST or gRPC.
        doing: The request, such as ``create the instances of x``.
    """
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError, TransportError

    if isinstance(error, BurstError):
        return error
    if isinstance(error, exceptions.GoogleAPICallError):
        return _from_call(error, doing)
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return AuthError(f"Google's credentials cannot be used to {doing}: {plain(error)}")
    return UnreachableError(f"cannot reach Google to {doing}: {plain(error)}")


def plain(error: object) -> str:
    """Return the core of a connection's or credentials' error, without its history.

    Such as ``127.0.0.1:9: Connection refused``, where requests and urllib3 list every error on the
    way, and gRPC describes its channel.
    """
    text = text_of(error) if isinstance(error, BaseException) else str(error)
    text = " ".join((_with_cause(error) or text).split())
    for pattern, instead in _NOISE:
        text = pattern.sub(instead, text)
    return text.rstrip(".")


def _with_cause(error: object) -> str:
    """Return the text of an error of google.auth, with its cause or response."""
    arguments = error.args if isinstance(error, BaseException) else ()
    if len(arguments) < 2 or not isinstance(arguments[0], str):
        return ""
    said, cause = arguments[0].rstrip("."), arguments[1]
    if isinstance(cause, BaseException):
        return f"{said}: {text_of(cause)}"
    message = re.search(r'"message":\s*"([^"]*)"', cause) if isinstance(cause, str) else None
    return f"{said}: {message[1]}" if message else said


_NOISE = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"Getting metadata from plugin failed with error: ", "credentials cannot be renewed: "),
        (r"^failed to connect to all addresses; last error: \w+: (ipv[46]:)?", ""),
        (r"errors resolving (\S+): \[.*error:(.*)\]", r"\2"),
        (r"Failed to connect to remote host: ", ""),
        (r"HTTPS?ConnectionPool\(host='([^']*)', port=(\d+)\): ", r"\1:\2: "),
        (r"Max retries exceeded with url: .*\[Errno -?\d+\] ([^'\")\]]*).*", r"\1"),
        (r"Max retries exceeded with url: .*( timed out).*", r"connecting\1"),
        (r"Max retries exceeded with url: .*(certificate verify failed[^(]*).*", r"\1"),
        (r" To set up Application Default Credentials, see .*", ""),
    )
)
"""Patterns to remove from the messages of libraries."""


def missing_permission(message: str) -> str:
    """Return the permission named by a refusal, such as ``compute.instances.create``, or ""."""
    if "ermission" not in message:
        return ""
    match = _PERMISSION.search(message.replace("googleapis.com", ""))
    return match[1] if match else ""


def retry_after(error: GoogleAPICallError, now: datetime.datetime | None = None) -> float | None:
    """Return the wait in seconds that Google requests (RFC 9110, or RetryInfo); None if none.

    Args:
        error: The exception.
        now: The time, if not the current one.
    """
    headers = getattr(error.response, "headers", None)
    told = headers.get("Retry-After", "") if headers is not None else ""
    if told.isdigit():
        return float(told)
    if told:
        try:
            until = email.utils.parsedate_to_datetime(told)
        except ValueError:
            return None
        return max(0.0, (until - (now or datetime.datetime.now(until.tzinfo))).total_seconds())
    return next(_delays(error), None)


def _delays(error: GoogleAPICallError) -> Iterator[float]:
    """Yield the delays of google.rpc.RetryInfo: as JSON from REST, as a message from gRPC."""
    for detail in error.details:
        if isinstance(detail, Mapping):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay", "")))
            if match:
                yield float(match[1])
        elif hasattr(detail, "retry_delay"):
            yield detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9


def _from_call(error: GoogleAPICallError, doing: str) -> BurstError:
    message, status = _message(error), int(error.code or 0)
    codes = () if status == 404 and not _is_googles(error) else _codes(error)
    for code in codes:
        known = from_code(code, message, doing)
        if isinstance(known, BusyError):
            return BusyError(str(known), code, retry_after(error))
        # A status is less specific than a code, and some codes less than a status: 403 means
        # missing permissions unless a code differs.
        if type(known) is not GoogleFailure:
            return known
    if status == 404 and not _is_googles(error):
        said = f"the server asked to {doing} is not Google (HTTP 404): {message}"
        return AwayError(said, str(status), retry_after(error))
    if status == 503 or status == 500 or status == 502:
        told = f" (HTTP {status})" if hasattr(error.response, "status_code") else ""
        said = f"Google failed to {doing}: {message}{told}"
        return AwayError(said, str(status), retry_after(error))
    if status == 504:
        return UnreachableError(f"Google did not answer in time to {doing}: {message}")
    return from_code(_STATUS_CODES.get(status, str(status)), message, doing)


def _is_googles(error: GoogleAPICallError) -> bool:
    """Whether a response is Google's: proxies answer HTTP 404 with their own pages.

    Google's responses have an object ``error`` with a code
    (https://google.aip.dev/193#http11json-mapping); over gRPC all responses are Google's.
    """
    response = error.response
    if not hasattr(response, "json"):
        return True
    try:
        document = response.json()
    except ValueError:
        return False
    told = document.get("error") if isinstance(document, dict) else None
    return isinstance(told, dict) and "code" in told


def _codes(error: GoogleAPICallError) -> Iterator[str]:
    """Yield the codes of a refusal, most specific first."""
    if error.reason:
        yield str(error.reason)
    for one in error.errors:
        if isinstance(one, Mapping) and one.get("reason"):
            yield str(one["reason"])
    status = int(error.code or 0)
    if status == 429 and "quota" in _message(error).lower() and "rate" not in str(error).lower():
        yield "quotaExceeded"  # gRPC's RESOURCE_EXHAUSTED is either
    if status in _STATUS_CODES:
        yield _STATUS_CODES[status]


def _message(error: Any) -> str:
    """Return the text of a refusal, without the request that REST clients prepend."""
    return plain(re.sub(r"^[A-Z]+ https?://\S+: ", "", str(error.message)))


def _advice(code: str, message: str) -> str:
    permission = missing_permission(message)
    if permission:
        return f"; the missing permission is {permission}: see fluxburst's role.yaml"
    if code in ("SERVICE_DISABLED", "accessNotConfigured"):
        return "; enable that API in the project"
    if code in ("authError", "ACCESS_TOKEN_EXPIRED", "CREDENTIALS_MISSING"):
        return "; log in again with gcloud auth application-default login, or renew the key"
    return ""
