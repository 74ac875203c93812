"""Translates the API server's errors into errors with advice.

The server answers with a Status
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/): a code of HTTP, a
reason such as ``AlreadyExists``, and a message for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fluxburst.errors import AuthError, BurstError, QuotaError, UnreachableError

PERMISSIONS = "rbac.yaml of the package fluxburst_kubernetes"


@dataclass(frozen=True)
class Answer:
    """An error response of an API server.

    Attributes:
        code: The code of HTTP.
        reason: The Status' reason, such as ``NotFound``; empty without a Status.
        message: The Status' message.
        headers: The headers.
        about: The name and the kind (its plural) of the object in the Status, as far as
            given.
    """

    code: int
    reason: str = ""
    message: str = ""
    headers: Mapping[str, str] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def retry_after(self) -> float | None:
        """How many seconds a busy server asks to wait."""
        if self.code != 429:
            return None
        told = (self.headers or {}).get("Retry-After", "")
        return float(told) if told.isdigit() else 1.0


class ApiFailure(BurstError):  # noqa: N818 - as Status has it
    """Any other error of an API server."""

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class NotFoundError(ApiFailure):
    """Something does not exist: an object, its namespace, or the kind of object."""


class PageError(UnreachableError):
    """The response is not from an API server, or not about any object."""


class ExistsError(ApiFailure):
    """An object of that name already exists."""


class StaysError(BurstError):
    """A deleted object still exists after the timeout."""


def no_server(doing: str) -> str:
    """Return the message for a response that is not from an API server.

    Args:
        doing: The request.
    """
    return f"the server asked to {doing} is not a Kubernetes API server"


def is_about(answer: Answer, name: str, kind: str) -> bool:
    """Whether a Status is about an object, as far as it names one.

    Args:
        answer: The answer.
        name: The object's name.
        kind: The plural of its kind.
    """
    wanted = {"name": name, "kind": kind}
    return all(answer.about.get(key, "") in ("", value) for key, value in wanted.items())


def as_error(answer: Answer, doing: str) -> BurstError:
    """Return the error for a response.

    Args:
        answer: The server's response.
        doing: The request, such as ``create the secret x``.
    """
    said = answer.message or answer.reason or f"HTTP {answer.code}"
    problem = f"the API server refused to {doing}: {said}"
    if answer.code == 401:
        return AuthError(
            f"{problem}: it does not accept these credentials; log in again, or check parameters "
            "kubeconfig and context"
        )
    if answer.code == 403 and "exceeded quota" in answer.message:
        return QuotaError(problem)
    if answer.code == 403:
        return AuthError(f"{problem}; {PERMISSIONS} has the needed permissions")
    if answer.code == 404 and answer.reason == "NotFound":
        return NotFoundError(f"{problem}; a requirement does not exist", answer)
    if answer.code == 404:  # from a proxy before the server: not about any object
        return PageError(f"{no_server(doing)}: {said} (HTTP 404)")
    if answer.code == 409 and answer.reason == "AlreadyExists":
        return ExistsError(problem, answer)
    if answer.code == 429:
        return ApiFailure(f"the API server is too busy to {doing}: {said}", answer)
    if answer.code >= 500:
        return ApiFailure(f"the API server failed to {doing}: {said} (HTTP {answer.code})", answer)
    return ApiFailure(problem, answer)
