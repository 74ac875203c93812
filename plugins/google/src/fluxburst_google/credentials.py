"""The identity for requests: Google's application default credentials only.

They are found as described in
https://cloud.google.com/docs/authentication/application-default-credentials: the file named by
``GOOGLE_APPLICATION_CREDENTIALS``, that of ``gcloud auth application-default login``, or the
service account of this machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxburst.errors import AuthError, RequestError
from fluxburst_google.errors import plain

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_PROJECT = re.compile(r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", re.ASCII)


@dataclass(frozen=True)
class Identity:
    """An identity.

    Attributes:
        credentials: Credentials for Google's clients.
        project: The project's id: the configured one, or the credentials' own; empty for none.
        who: Description of the identity, for people.
    """

    credentials: Credentials
    project: str
    who: str

    def require_project(self) -> str:
        """Return the project's id.

        Raises:
            RequestError: if it does not exist.
        """
        if not self.project:
            raise RequestError(
                "unknown Google Cloud project: set the parameter project, since these "
                f"credentials ({self.who}) have none"
            )
        return self.project


def default(project: str | None = None) -> Identity:
    """Find the application default credentials.

    Args:
        project: The project's id; None for the credentials' own.

    Raises:
        AuthError: if there are none, or they are unreadable.
    """
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        credentials, own = google.auth.default(scopes=[SCOPE])
    except (GoogleAuthError, OSError, ValueError) as error:
        raise AuthError(
            f"there are no Google credentials: {plain(error)}; run gcloud auth application-default "
            "login, or set GOOGLE_APPLICATION_CREDENTIALS to a credentials file"
        ) from error
    return Identity(credentials, project or own or "", who(credentials))


def who(credentials: Credentials) -> str:
    """Describe the owner of credentials for people, as far as known."""
    email = getattr(credentials, "service_account_email", "")
    if email == "default":
        return "the default service account of this machine"
    if email:
        return f"service account {email}"
    account = getattr(credentials, "account", "")
    if account:
        return f"user {account}"
    told: dict[str, str] = getattr(credentials, "get_cred_info", dict)() or {}
    kind = told.get("credential_type") or type(credentials).__module__.split(".")[-1]
    return told.get("principal") or kind


def check_project(project: str | None) -> None:
    """Check the form of a project's id, if set.

    Raises:
        RequestError: if it is invalid.
    """
    if project is not None and not _PROJECT.fullmatch(project):
        raise RequestError(f"{project!r} is not a valid project id")
