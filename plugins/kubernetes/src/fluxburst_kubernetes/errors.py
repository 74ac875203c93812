"""Errors at the wire: what the API server answers, as errors that say what to do.

The server answers with a Status
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/): a code of HTTP, a
reason such as ``AlreadyExists``, and a message for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fluxburst.errors import AuthError, BurstError, QuotaError

PERMISSIONS = "rbac.yaml of the package fluxburst_kubernetes"


@dataclass(frozen=True)
class Answer:
    """What an API server answered instead of what it was asked for.

    Attributes:
        code: The code of HTTP.
        reason: The Status' reason, such as ``NotFound``; empty where it is no Status.
        message: The Status' message.
        headers: The headers.
    """

    code: int
    reason: str = ""
    message: str = ""
    headers: Mapping[str, str] | None = None

    @property
    def retry_after(self) -> float | None:
        """For how many seconds to wait, where the server is too busy and says so."""
        if self.code != 429:
            return None
        told = (self.headers or {}).get("Retry-After", "")
        return float(told) if told.isdigit() else 1.0


class ApiFailure(BurstError):  # noqa: N818 - as Status has it
    """An API server's answer, for which there is no error of a kind of its own."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class NotFoundError(ApiFailure):
    """Something is not there: an object, its namespace, or the kind of object."""


class ExistsError(ApiFailure):
    """An object of that name is there already."""


class StaysError(BurstError):
    """What was deleted is still there after all the time that it was given."""


def as_error(answer: Answer, doing: str) -> BurstError:
    """Return the error for an answer.

    Args:
        answer: What the server said.
        doing: What it was asked, such as ``create the secret x``.
    """
    said = answer.message or answer.reason or f"HTTP {answer.code}"
    problem = f"the API server refused to {doing}: {said}"
    if answer.code == 401:
        return AuthError(
            f"{problem}: it does not accept these credentials; log in anew, or see the parameters "
            "kubeconfig and context"
        )
    if answer.code == 403 and "exceeded quota" in answer.message:
        return QuotaError(problem)
    if answer.code == 403:
        return AuthError(f"{problem}; {PERMISSIONS} has the permissions that it needs")
    if answer.code == 404:
        return NotFoundError(f"{problem}; what it needs is not there", answer)
    if answer.code == 409 and answer.reason == "AlreadyExists":
        return ExistsError(problem, answer)
    if answer.code == 429:
        return ApiFailure(f"the API server is too busy to {doing}: {said}", answer)
    if answer.code >= 500:
        return ApiFailure(f"the API server failed to {doing}: {said} (HTTP {answer.code})", answer)
    return ApiFailure(problem, answer)
