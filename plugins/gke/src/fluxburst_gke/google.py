"""Google's APIs for this plugin: typed messages, typed errors, retries with limits.

This is the only module that imports Google's clients, and it is imported on first use.
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
"""A token that expires sooner than this is renewed before use."""


class Google:
    """One project's Kubernetes Engine, in one location.

    Args:
        identity: The identity for requests.
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
        """Send a request; retry while Google is too busy.

        Args:
            doing: The request, such as ``create the node pool x``, for errors.
            method: The client's method.
            request: The fields of its request.

        Raises:
            BurstError: or a subclass, for Google's errors.
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
        """Return the wait before a retry; None if a retry is useless."""
        if not isinstance(error, BusyError):
            return None
        told = error.retry_after
        return self._params.provider_poll_interval if told is None else told

    def find(self, doing: str, method: Callable[..., T], /, **request: Any) -> T | None:
        """Request something that may not exist; None if it does not."""
        try:
            return self.ask(doing, method, **request)
        except NotFoundError:
            return None

    def change(self, doing: str, method: Callable[..., T], until: float, /, **request: Any) -> T:
        """Request a change; retry while another one is running, until a monotonic time."""
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
        """Request a change, and wait until it is done.

        Raises:
            CapacityError: on timeout.
            BurstError: or a subclass, if it fails.
        """
        asked = self.change(doing, method, until, **request)
        self.wait(lambda: self.is_done(asked.name, doing), until, doing)

    def is_done(self, operation: str, doing: str) -> bool:
        """Whether an operation is done.

        Raises:
            BurstError: or a subclass, if it failed.
        """
        now = self.ask(
            f"follow the operation to {doing}",
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
        """Wait until a condition holds.

        Raises:
            CapacityError: on timeout: another node type may be faster.
        """
        began = time.monotonic()
        while not done():
            if time.monotonic() > until:
                waited = format_duration(round(time.monotonic() - began))
                raise CapacityError(f"timed out after {waited}: {what}")
            time.sleep(self._params.provider_poll_interval)

    def token(self) -> str:
        """Return a token for the cluster's API server, renewed if it expires soon.

        Raises:
            AuthError: if Google refuses.
        """
        credentials = self.identity.credentials
        with self._lock:
            left = TOKEN_SECONDS
            if credentials.expiry is not None:  # in UTC, without a time zone
                expiry = credentials.expiry.replace(tzinfo=datetime.timezone.utc)
                left = expiry.timestamp() - time.time()
            if not credentials.valid or left < TOKEN_SECONDS:
                try:
                    credentials.refresh(Request())  # type: ignore[no-untyped-call]
                except (GoogleAuthError, OSError) as error:
                    raise as_error(error, "get a token for the cluster") from error
            return str(credentials.token)

    def group_size(self, url: str) -> int:
        """Return the target size of an instance group, by the URL in a pool."""
        place = dict(zip((parts := url.split("/")), parts[1:], strict=False))
        options = None
        if self._params.compute_endpoint:
            options = ClientOptions(api_endpoint=self._params.compute_endpoint)
        with compute_v1.InstanceGroupManagersClient(
            credentials=self.identity.credentials, client_options=options
        ) as client:
            name = place.get("instanceGroupManagers") or place["instanceGroups"]
            found = self.ask(
                f"get the size of {name}",
                client.get,
                project=place["projects"],
                zone=place["zones"],
                instance_group_manager=name,
            )
        return int(found.target_size)

    def permitted(self, permissions: list[str]) -> set[str]:
        """Return which of some permissions this identity has in the project.

        Raises:
            BurstError: if that is unknown.
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
                    raise BurstError(f"Google does not list permissions: {answer.text}")
                return set(answer.json().get("permissions", ()))
        except (GoogleAuthError, OSError, ValueError) as error:
            raise as_error(error, "list permissions") from error
