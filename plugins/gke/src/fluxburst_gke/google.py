"""Google's APIs as the plugin asks them: typed messages, errors with a type, patience with limits.

This is the one module that imports Google's clients, and it is only imported once they are needed.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request
from google.cloud import compute_v1, container_v1

from fluxburst.errors import BurstError, CapacityError
from fluxburst.formats.units import format_duration
from fluxburst.provider import probe
from fluxburst_gke.errors import UnderWayError, as_error, from_conditions, from_text
from fluxburst_google.credentials import Identity
from fluxburst_google.errors import BusyError, NotFoundError

if TYPE_CHECKING:
    from fluxburst_gke.parameters import BurstParameters

T = TypeVar("T")

LONGEST_PAUSE = 30.0
RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"
TOKEN_SECONDS = 300.0
"""A token that is valid for less than this is renewed before it is used."""


class Google:
    """One project's Kubernetes Engine, in one location.

    Args:
        identity: Who asks.
        params: The plugin's parameters.
    """

    def __init__(self, identity: Identity, params: BurstParameters) -> None:
        self.identity = identity
        self._params = params
        self._lock = threading.Lock()
        self.project = identity.require_project()
        self.parent = f"projects/{self.project}/locations/{params.location}"
        self.cluster_path = f"{self.parent}/clusters/{params.cluster_name}"
        options = ClientOptions(api_endpoint=params.endpoint) if params.endpoint else None
        self.clusters = container_v1.ClusterManagerClient(
            credentials=identity.credentials, client_options=options
        )

    def close(self) -> None:
        """Close the connection."""
        self.clusters.transport.close()  # type: ignore[no-untyped-call]

    def pool_path(self, name: str) -> str:
        """Return the API's name of a node pool."""
        return f"{self.cluster_path}/nodePools/{name}"

    def operation_path(self, name: str) -> str:
        """Return the API's name of an operation."""
        return f"{self.parent}/operations/{name}"

    def ask(self, doing: str, method: Callable[..., T], /, **request: Any) -> T:
        """Ask Google, again while it is too busy to answer.

        Args:
            doing: What is asked, such as ``create the node pool x``, for errors.
            method: The client's method.
            request: The fields of its request.

        Raises:
            BurstError: or one of its kinds, for what it answers.
        """
        with probe.asked("Google"):
            return self._answered(doing, method, **request)

    def _answered(self, doing: str, method: Callable[..., T], /, **request: Any) -> T:
        until = time.monotonic() + probe.patience(self._params.retry_timeout)
        while True:
            try:
                return method(request=request, retry=None, timeout=self._params.request_timeout)
            except (GoogleAPICallError, GoogleAuthError, OSError) as error:
                failure = as_error(error, doing)
                pause = self._pause(failure)
                if pause is None or time.monotonic() + pause > until:
                    raise failure from error
                time.sleep(min(pause, LONGEST_PAUSE))

    def _pause(self, error: BurstError) -> float | None:
        """Return for how long to wait before asking again; None where that is of no use."""
        if not isinstance(error, BusyError):
            return None
        told = error.retry_after
        return self._params.provider_poll_interval if told is None else told

    def find(self, doing: str, method: Callable[..., T], /, **request: Any) -> T | None:
        """Ask for something that may not be there; None if it is not."""
        try:
            return self.ask(doing, method, **request)
        except NotFoundError:
            return None

    def change(self, doing: str, method: Callable[..., T], until: float, /, **request: Any) -> T:
        """Ask for a change, again while another one is under way, until a monotonic time."""
        while True:
            try:
                return self.ask(doing, method, **request)
            except UnderWayError:
                if time.monotonic() > until:
                    raise
                time.sleep(self._params.provider_poll_interval)

    def follow(
        self,
        doing: str,
        method: Callable[..., container_v1.Operation],
        until: float,
        **request: object,
    ) -> None:
        """Ask for a change, and wait until it is done.

        Raises:
            CapacityError: if it is not in time.
            BurstError: or one of its kinds, if it fails.
        """
        asked = self.change(doing, method, until, **request)
        self.wait(lambda: self.is_done(asked.name, doing), until, doing)

    def is_done(self, operation: str, doing: str) -> bool:
        """Whether an operation is done.

        Raises:
            BurstError: or one of its kinds, if it failed.
        """
        now = self.ask(
            f"tell how far it is to {doing}",
            self.clusters.get_operation,
            name=self.operation_path(operation),
        )
        if now.status != container_v1.Operation.Status.DONE:
            return False
        if now.error.code:
            conditions = [*now.nodepool_conditions, *now.cluster_conditions]
            raise from_conditions(conditions, doing) or from_text(now.error.message, doing)
        return True

    def wait(self, done: Callable[[], bool], until: float, what: str) -> None:
        """Wait until something is so.

        Raises:
            CapacityError: if it is not in time: another node type may come up sooner.
        """
        began = time.monotonic()
        while not done():
            if time.monotonic() > until:
                waited = format_duration(round(time.monotonic() - began))
                raise CapacityError(f"waited for {waited} in vain: {what}")
            time.sleep(self._params.provider_poll_interval)

    def token(self) -> str:
        """Return a token for the cluster's API server, renewed if it ends soon.

        Raises:
            AuthError: if Google does not give one.
        """
        credentials = self.identity.credentials
        with self._lock:
            left = TOKEN_SECONDS
            if credentials.expiry is not None:  # in UTC, and does not say so
                expiry = credentials.expiry.replace(tzinfo=datetime.timezone.utc)
                left = expiry.timestamp() - time.time()
            if not credentials.valid or left < TOKEN_SECONDS:
                try:
                    credentials.refresh(Request())  # type: ignore[no-untyped-call]
                except (GoogleAuthError, OSError) as error:
                    raise as_error(error, "get a token for the cluster") from error
            return str(credentials.token)

    def group_size(self, url: str) -> int:
        """Return how many machines an instance group is to have, by the URL that a pool names."""
        place = dict(zip((parts := url.split("/")), parts[1:], strict=False))
        options = None
        if self._params.compute_endpoint:
            options = ClientOptions(api_endpoint=self._params.compute_endpoint)
        with compute_v1.InstanceGroupManagersClient(
            credentials=self.identity.credentials, client_options=options
        ) as client:
            name = place.get("instanceGroupManagers") or place["instanceGroups"]
            found = self.ask(
                f"tell the size of {name}",
                client.get,
                project=place["projects"],
                zone=place["zones"],
                instance_group_manager=name,
            )
        return int(found.target_size)

    def permitted(self, permissions: list[str]) -> set[str]:
        """Return those of some permissions that whoever asks has in the project.

        Raises:
            BurstError: if that cannot be told.
        """
        base = self._params.resource_manager_endpoint or RESOURCE_MANAGER
        url = f"{base}/v1/projects/{self.project}:testIamPermissions"
        try:
            credentials = self.identity.credentials
            with (
                probe.asked("Google's Resource Manager", part_of="Google"),
                AuthorizedSession(credentials) as session,  # type: ignore[no-untyped-call]
            ):
                body, limit = {"permissions": permissions}, self._params.request_timeout
                answer = session.post(url, json=body, timeout=limit)
                if not answer.ok:
                    raise BurstError(f"Google does not say what is permitted: {answer.text}")
                return set(answer.json().get("permissions", ()))
        except (GoogleAuthError, OSError, ValueError) as error:
            raise as_error(error, "say what is permitted") from error
