"""Translates AWS's errors into errors with advice.

The codes are those of the services' API references (Errors of EKS, "Error codes for the Amazon EC2
API", common errors of IAM and STS), and of the Issue of a node group's health. botocore gives them
without a suffix or with ``Exception``, as the service does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fluxburst.errors import AuthError, BurstError, CapacityError, QuotaError

THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
"""Codes for too many requests; they are retried later."""

_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})

_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "Blocked",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "OptInRequired",
        "PendingVerification",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

_CAPACITY = frozenset(
    {
        "AsgInstanceLaunchFailures",
        "InsufficientCapacity",
        "InsufficientFreeAddresses",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientHostCapacity",
        "InsufficientInstanceCapacity",
        "InsufficientReservedInstanceCapacity",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "UnsupportedAvailabilityZoneException",
    }
)

_QUOTA = re.compile(
    r"(\w*(?<!Rate)LimitExceeded|\w*CountExceeded|ServiceQuotaExceeded)(Exception)?"
)

_LAUNCH_CODE = re.compile(r"\b([A-Z][A-Za-z]{7,}) - ")
"""EC2's own code in a node group's issue: ``VcpuLimitExceeded - You have requested …``."""

_LAUNCH_QUOTA = re.compile(r"\b(quota|limit)\b", re.IGNORECASE)
_ACTION = re.compile(r"not authorized to perform:? ([a-z0-9-]+:\w+)")


@dataclass(frozen=True)
class Answer:
    """An error response of AWS.

    Attributes:
        code: The error code, such as ``ResourceInUseException``.
        message: Its message.
        status: The code of HTTP.
        retry_after: Its requested wait in seconds; None if it has none.
    """

    code: str
    message: str
    status: int = 0
    retry_after: float | None = None

    @property
    def too_busy(self) -> bool:
        """Whether a retry makes sense, after a pause."""
        return self.code in THROTTLED or self.status in (429, 503)


class AwsFailure(BurstError):  # noqa: N818 - after botocore's ClientError
    """Any other error of AWS."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class NotFoundError(AwsFailure):
    """Something does not exist: a cluster, a node group, a subnet, a role."""


class InUseError(AwsFailure):
    """Something of that name already exists, or another change of it is in progress."""


@dataclass(frozen=True)
class Issue:
    """A problem of a cluster or a node group, from EKS's health report."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


def as_error(answer: Answer, doing: str) -> BurstError:
    """Return the error for a response.

    Args:
        answer: The response of AWS.
        doing: The request, such as ``create the node group x``.
    """
    code = answer.code.removeprefix("Client.")
    problem = f"AWS refused to {doing}: {answer.message or 'no reason given'} ({code})"
    if answer.too_busy:
        return AwsFailure(f"AWS is too busy to {doing}: {answer.message} ({code})", answer)
    if code in _DENIED:
        return AuthError(f"{problem}; {_missing(answer.message)}")
    if code in _CREDENTIALS:
        return AuthError(
            f"{problem}: it does not accept these credentials; log in again, or check parameters "
            "profile and region"
        )
    if code in _CAPACITY:
        return CapacityError(problem)
    if _QUOTA.fullmatch(code):
        return QuotaError(problem)
    if code in ("ResourceNotFoundException", "NotFoundException") or code.endswith(".NotFound"):
        return NotFoundError(problem, answer)
    if code in ("ResourceInUseException", "ResourceInUse"):
        return InUseError(problem, answer)
    return AwsFailure(problem, answer)


def _missing(message: str) -> str:
    match = _ACTION.search(message)
    what = f"allow {match[1]}" if match else "allow it"
    return f"{what}: fluxburst's iam-policy.json has the needed permissions"


def as_issue_error(issues: Sequence[Issue], what: str) -> BurstError:
    """Return the error for the issues of a node group or a cluster.

    Args:
        issues: The issues; the first with its own error class decides.
        what: Their subject, such as ``the node group x``.
    """
    said = "; ".join(map(str, issues)) or "EKS gives no reason"
    problem = f"{what} did not come up: {said}"
    kinds = [kind for issue in issues if (kind := _kind_of(issue)) is not None]
    return (kinds[0] if kinds else BurstError)(problem)


def of_capacity(issues: Iterable[Issue]) -> bool:
    """Whether issues mean missing capacity, before EKS itself gives up."""
    return any(_kind_of(issue) in (CapacityError, QuotaError) for issue in issues)


def _kind_of(issue: Issue) -> type[BurstError] | None:
    launched = _LAUNCH_CODE.search(issue.message)
    if launched and (kind := _kind_of_code(launched[1])) is not None:
        return kind
    if issue.code == "AsgInstanceLaunchFailures" and _LAUNCH_QUOTA.search(issue.message):
        return QuotaError
    return _kind_of_code(issue.code)


def _kind_of_code(code: str) -> type[BurstError] | None:
    if code in _CAPACITY:
        return CapacityError
    if _QUOTA.fullmatch(code):
        return QuotaError
    return AuthError if code in _DENIED else None


def answer_of(response: Mapping[str, object]) -> Answer:
    """Return the error in a ClientError's response."""
    error, metadata = response.get("Error"), response.get("ResponseMetadata")
    error = error if isinstance(error, dict) else {}
    metadata = metadata if isinstance(metadata, dict) else {}
    headers = metadata.get("HTTPHeaders") or {}
    return Answer(
        str(error.get("Code", "Unknown")),
        str(error.get("Message", "")),
        int(metadata.get("HTTPStatusCode", 0)),
        _retry_after(headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the requested wait in seconds; AWS's own header, in milliseconds, has priority."""
    for name, unit in (("x-amz-retry-after", 0.001), ("retry-after", 1.0)):
        told = str(headers.get(name, ""))
        if told.isdigit():
            return int(told) * unit
    return None
