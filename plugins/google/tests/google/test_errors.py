"""What Google answers, as an error with a type, and what its libraries wrap an error in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from fluxburst.errors import AuthError, BurstError, CapacityError, QuotaError
from fluxburst_google.errors import (
    BusyError,
    ExistsError,
    GoogleFailure,
    NotFoundError,
    from_code,
    missing_permission,
    plain,
)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ZONE_RESOURCE_POOL_EXHAUSTED", CapacityError),
        ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", CapacityError),
        ("STOCKOUT", CapacityError),
        ("QUOTA_EXCEEDED", QuotaError),
        ("PERMISSIONS_ERROR", AuthError),
        ("RESOURCE_ALREADY_EXISTS", ExistsError),
        ("RESOURCE_NOT_FOUND", NotFoundError),
        ("RATE_LIMIT_EXCEEDED", BusyError),
        ("INTERNAL_ERROR", GoogleFailure),
    ],
)
def test_each_code_of_an_operation_is_an_error_of_its_kind(
    code: str, error: type[BurstError]
) -> None:
    made = from_code(code, "so it is", "do it")
    assert type(made) is error
    assert "so it is" in str(made)


def test_a_message_without_a_permission_names_none() -> None:
    assert missing_permission("Permission denied on resource project x") == ""
    assert missing_permission("see compute.googleapis.com/x.y.z") == ""


refresh_error: Callable[..., Exception] = RefreshError  # google.auth has no types
credentials_error: Callable[..., Exception] = DefaultCredentialsError
URLLIB3 = (
    "HTTPSConnectionPool(host='compute.googleapis.com', port=443): Max retries exceeded with url: "
    "/compute/v1/projects/p?filter=x (Caused by {})"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(URLLIB3.format(
                "NewConnectionError('<urllib3.HTTPSConnection object at 0x7f>: Failed to "
                "establish a new connection: [Errno 111] Connection refused')"
            )),
            "compute.googleapis.com:443: Connection refused",
        ),
        (
            OSError(URLLIB3.format(
                "NameResolutionError(\"HTTPSConnection(host='x', port=443): Failed to resolve 'x' "
                "([Errno -2] Name or service not known)\")"
            )),
            "compute.googleapis.com:443: Name or service not known",
        ),
        (
            OSError(URLLIB3.format(
                "ConnectTimeoutError(<HTTPSConnection object>, 'Connection to x timed out. "
                "(connect timeout=2)')"
            )),
            "compute.googleapis.com:443: connecting timed out",
        ),
        (
            "Getting metadata from plugin failed with error: "
            + URLLIB3.format("X('<X>: Failed: [Errno 113] No route to host')"),
            "credentials cannot be renewed: compute.googleapis.com:443: No route to host",
        ),
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Failed to "
            "connect to remote host: Connection refused",
            "127.0.0.1:9: Connection refused",
        ),
        (refresh_error("invalid_grant: Bad Request", {"error": "x"}), "invalid_grant: Bad Request"),
        (
            refresh_error("Unable to acquire them", '{"error": {"message": "not allowed"}}'),
            "Unable to acquire them: not allowed",
        ),
        (
            credentials_error("File x is not valid.", ValueError("no\nkey")),
            "File x is not valid: no key",
        ),
        ("Quota 'CPUS' exceeded", "Quota 'CPUS' exceeded"),
    ],
)  # fmt: skip
def test_what_libraries_wrap_an_error_in_is_left_out(error: object, said: str) -> None:
    assert plain(error) == said
