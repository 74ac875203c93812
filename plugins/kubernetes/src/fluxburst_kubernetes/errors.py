"""Errors at the wire: what the API server answers, as errors that say what to do.

The server answers with a Status
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/): a code of HTTP, a
reason such as ``AlreadyExists``, and a message for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fluxburst.errors import AuthError, BurstError, QuotaError, UnreachableError

PERMISSIONS = "rbac.yaml of the package fluxburst_kubernetes"


@dataclass(frozen=True)
class Answer:
    """What an API server answered instead of what it was asked for.

    Attributes:
        code: The code of HTTP.
        reason: The Status' reason, such as ``NotFound``; empty where it is no Status.
        message: The Status' message.
        headers: The headers.
        about: The name and the kind (its plural) of the object that a Status is about, as far as
            it says.
    """

    code: int
    reason: str = ""
    message: str = ""
    headers: Mapping[str, str] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

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


class PageError(UnreachableError):
    """Something answered that is no API server, or for none: it says nothing of any object."""


class ExistsError(ApiFailure):
    """An object of that name is there already."""


class StaysError(BurstError):
    """What was deleted is still there after all the time that it was given."""


def no_server(doing: str) -> str:
    """Return what is said of an answer that is not that of an API server.

    Args:
        doing: What it was asked.
    """
    return f"what answered when asked to {doing} is no Kubernetes API server"


def is_about(answer: Answer, name: str, kind: str) -> bool:
    """Whether a Status is about an object, as far as it says which it is about.

    Args:
        answer: The answer.
        name: The object's name.
        kind: The plural of its kind.
    """
    wanted = {"name": name, "kind": kind}
    return all(answer.about.get(key, "") in ("", value) for key, value in wanted.items())


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
    if answer.code == 404 and answer.reason == "NotFound":
        return NotFoundError(f"{problem}; what it needs is not there", answer)
    if answer.code == 404:  # of what stands before the server: it says nothing of any object
        return PageError(f"{no_server(doing)}: {said} (HTTP 404)")
    if answer.code == 409 and answer.reason == "AlreadyExists":
        return ExistsError(problem, answer)
    if answer.code == 429:
        return ApiFailure(f"the API server is too busy to {doing}: {said}", answer)
    if answer.code >= 500:
        return ApiFailure(f"the API server failed to {doing}: {said} (HTTP {answer.code})", answer)
    return ApiFailure(problem, answer)
