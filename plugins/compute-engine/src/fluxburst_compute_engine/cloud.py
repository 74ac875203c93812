"""A connection to Compute Engine: requests with retries, and operations.

Every call is for one page, one object or one change, so that an error names what was refused. The
clients' own futures are not used: they follow operations at Google's public endpoint, whatever
endpoint the client was created for.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from google.cloud import compute_v1 as api

from fluxburst.errors import (
    AuthError,
    BurstError,
    CapacityError,
    QuotaError,
    UnreachableError,
)
from fluxburst.formats.units import format_duration
from fluxburst.provider import probe
from fluxburst_google.errors import (
    BusyError,
    ExistsError,
    GoogleFailure,
    NotFoundError,
    as_error,
    from_code,
)

if TYPE_CHECKING:
    from fluxburst_compute_engine.parameters import BurstParameters
    from fluxburst_google.credentials import Identity

T = TypeVar("T")

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 16.0
"""Wait between retries, if Google is too busy and requests no particular wait."""

VAGUE_CODES = frozenset({"VM_MIN_COUNT_NOT_REACHED"})
"""Codes of a bulk insert without a cause: its machines' own operations have it."""


NOT_READY_CODES = frozenset({"RESOURCE_NOT_READY", "resourceNotReady"})
"""Codes of conflicts with a change in progress."""


@dataclass(frozen=True)
class Patience:
    """Timeouts and intervals in seconds: for an answer, for a busy service, between polls."""

    request: float
    retry: float
    poll: float


def request_id(tag: str, burst: str) -> str:
    """Return a unique id for a request that creates a burst's machines.

    Its first half identifies the burst, so that other processes find the request.
    """
    own = bytearray(_mark(tag, burst) + secrets.token_bytes(8))
    own[6] = own[6] & 0x0F | 0x40  # formally version 4 of RFC 9562
    own[8] = own[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(own)))


def is_of(request: str, tag: str, burst: str) -> bool:
    """Return whether :func:`request_id` made an id for a burst."""
    with contextlib.suppress(ValueError):
        return uuid.UUID(request).bytes[:6] == _mark(tag, burst)[:6]
    return False


def _mark(tag: str, burst: str) -> bytes:
    return hashlib.sha256(f"{tag}\n{burst}".encode()).digest()[:8]


class Compute:
    """Compute Engine, for one identity and one project."""

    def __init__(self, identity: Identity, endpoint: str, patience: Patience) -> None:
        self.identity = identity
        self.project = identity.require_project()
        self.patience = patience
        self._options = {"api_endpoint": endpoint} if endpoint else None
        self._clients: dict[type[Any], Any] = {}

    def close(self) -> None:
        """Close its connections."""
        for client in self._clients.values():
            client.transport.close()
        self._clients.clear()

    # --- machines --------------------------------------------------------------------------

    def instances(self, labels: Mapping[str, str]) -> list[api.Instance]:
        """Return the machines with these labels, in all zones."""
        wanted = " AND ".join(f"labels.{key}={value}" for key, value in labels.items())
        client = self._client(api.InstancesClient)
        request = api.AggregatedListInstancesRequest(project=self.project, filter=wanted)
        doing = "list machines"
        found: list[api.Instance] = []
        for page in self._pages(doing, client.aggregated_list, request):
            for place, scope in page.items.items():
                if scope.warning.code == "UNREACHABLE":  # the list lacks this zone's machines
                    said = scope.warning.message or scope.warning.code
                    raise UnreachableError(f"Google could not {doing} of {place}: {said}")
                found += scope.instances
        return found

    def has(self, zone: str, name: str) -> bool:
        """Whether a machine exists.

        Raises:
            BurstError: if that is unknown: if the zone, or the project, does not exist.
        """
        client = self._client(api.InstancesClient)
        request = api.GetInstanceRequest(project=self.project, zone=zone, instance=name)
        try:
            self._ask(f"look up the machine {name} in {zone}", client.get, request)
        except NotFoundError as error:
            if f"instances/{name}" not in str(error):
                raise
            return False
        return True

    def insert(
        self, zone: str, resource: api.BulkInsertInstanceResource, request: str, doing: str
    ) -> None:
        """Create machines, and wait until they exist.

        Args:
            zone: The zone.
            resource: The request.
            request: The request's id: repeated requests have no effect.
            doing: Description of the request, for errors.

        Raises:
            BurstError: or a subclass: the error of the machines' own operations.
        """
        client = self._client(api.InstancesClient)
        asked = api.BulkInsertInstanceRequest(
            project=self.project,
            zone=zone,
            bulk_insert_instance_resource_resource=resource,
            request_id=request,
        )
        self.wait(zone, self._ask(doing, client.bulk_insert_unary, asked), doing)

    def insertions(self, zone: str, tag: str, burst: str) -> list[api.Operation]:
        """Return the running bulk inserts of a burst in a zone."""
        client = self._client(api.ZoneOperationsClient)
        request = api.ListZoneOperationsRequest(
            project=self.project,
            zone=zone,
            filter='(operationType = "bulkInsert") AND (status != "DONE")',
        )
        pages = self._pages(f"list operations in {zone}", client.list, request)
        found = (one for page in pages for one in page.items)
        return [one for one in found if is_of(one.client_operation_id, tag, burst)]

    def delete(self, instance: api.Instance) -> bool:
        """Request a machine's deletion; success if it does not exist.

        Returns whether it was accepted: during another change it must be requested again.
        """
        client = self._client(api.InstancesClient)
        request = api.DeleteInstanceRequest(
            project=self.project, zone=last(instance.zone), instance=instance.name
        )
        try:
            with contextlib.suppress(NotFoundError):
                self._ask(f"delete the machine {instance.name}", client.delete_unary, request)
        except GoogleFailure as error:
            if error.code not in NOT_READY_CODES:
                raise
            return False
        return True

    def forget(self, instance: api.Instance, keys: frozenset[str]) -> None:
        """Remove keys from a machine's metadata."""
        kept = [item for item in instance.metadata.items if item.key not in keys]
        client = self._client(api.InstancesClient)
        request = api.SetMetadataInstanceRequest(
            project=self.project,
            zone=last(instance.zone),
            instance=instance.name,
            metadata_resource=api.Metadata(fingerprint=instance.metadata.fingerprint, items=kept),
        )
        self._ask(f"set the metadata of {instance.name}", client.set_metadata_unary, request)

    def console(self, instance: api.Instance) -> str:
        """Return the output of a machine's serial port."""
        client = self._client(api.InstancesClient)
        request = api.GetSerialPortOutputInstanceRequest(
            project=self.project, zone=last(instance.zone), instance=instance.name
        )
        doing = f"read the serial port of {instance.name}"
        return str(self._ask(doing, client.get_serial_port_output, request).contents)

    def console_command(self, instance: api.Instance) -> str:
        """Return the command for reading it by hand."""
        return (
            f"gcloud compute instances get-serial-port-output {instance.name} "
            f"--zone {last(instance.zone)} --project {self.project}"
        )

    def told(self, instance: api.Instance) -> dict[str, str]:
        """Return a machine's guest attributes in the namespace ``fluxburst``."""
        client = self._client(api.InstancesClient)
        request = api.GetGuestAttributesInstanceRequest(
            project=self.project,
            zone=last(instance.zone),
            instance=instance.name,
            query_path="fluxburst/",
        )
        doing = f"read the guest attributes of {instance.name}"
        try:
            found = self._ask(doing, client.get_guest_attributes, request)
        except NotFoundError:  # it has not written any yet, or does not exist
            return {}
        return {item.key: item.value for item in found.query_value.items}

    # --- locations -------------------------------------------------------------------------

    def zones(self, region: str) -> list[str]:
        """Return the names of a region's zones."""
        client = self._client(api.RegionsClient)
        request = api.GetRegionRequest(project=self.project, region=region)
        found = self._ask(f"look up the region {region}", client.get, request)
        return sorted(last(zone) for zone in found.zones)

    def image(self, path: str) -> api.Image:
        """Return an image, by its path or its family's."""
        client = self._client(api.ImagesClient)
        project, name = path.split("/")[-4 if "/family/" not in path else -5], last(path)
        doing = f"look up the image {path}"
        if "/family/" in path:
            family = api.GetFromFamilyImageRequest(project=project, family=name)
            found: api.Image = self._ask(doing, client.get_from_family, family)
        else:
            found = self._ask(doing, client.get, api.GetImageRequest(project=project, image=name))
        return found

    # --- placement -------------------------------------------------------------------------

    def ensure_policy(self, region: str, name: str, description: str) -> str:
        """Create a compact placement policy unless it exists; return its path."""
        client = self._client(api.ResourcePoliciesClient)
        policy = api.ResourcePolicy(
            name=name,
            description=description,
            group_placement_policy=api.ResourcePolicyGroupPlacementPolicy(collocation="COLLOCATED"),
        )
        request = api.InsertResourcePolicyRequest(
            project=self.project, region=region, resource_policy_resource=policy
        )
        doing = f"create the placement policy {name}"
        with contextlib.suppress(ExistsError):
            self.wait("", self._ask(doing, client.insert_unary, request), doing, region=region)
        return f"projects/{self.project}/regions/{region}/resourcePolicies/{name}"

    def policies(self, region: str, prefix: str) -> list[api.ResourcePolicy]:
        """Return the resource policies with this prefix."""
        client = self._client(api.ResourcePoliciesClient)
        request = api.ListResourcePoliciesRequest(project=self.project, region=region)
        pages = self._pages("list placement policies", client.list, request)
        found = (one for page in pages for one in page.items)
        return [policy for policy in found if policy.name.startswith(prefix)]

    def delete_policy(self, region: str, name: str) -> None:
        """Delete a policy; success if it does not exist."""
        client = self._client(api.ResourcePoliciesClient)
        request = api.DeleteResourcePolicyRequest(
            project=self.project, region=region, resource_policy=name
        )
        doing = f"delete the placement policy {name}"
        with contextlib.suppress(NotFoundError):
            self.wait("", self._ask(doing, client.delete_unary, request), doing, region=region)

    # --- operations ------------------------------------------------------------------------

    def wait(self, zone: str, operation: api.Operation, doing: str, *, region: str = "") -> None:
        """Wait until an operation is done.

        Raises:
            BurstError: or a subclass, if it fails.
        """
        operation = self.follow(operation, zone=zone, region=region)
        codes = [(one.code, one.message) for one in operation.error.errors]
        if not codes:
            return
        if any(code in VAGUE_CODES for code, _ in codes) and operation.operation_group_id:
            codes = [*self._reasons(zone, operation.operation_group_id), *codes]
        raise min((from_code(code, message, doing) for code, message in codes), key=_rank)

    def follow(
        self, operation: api.Operation, *, zone: str = "", region: str = ""
    ) -> api.Operation:
        """Wait until an operation is done, however it ends."""
        name = operation.name
        while operation.status != api.Operation.Status.DONE:
            time.sleep(self.patience.poll)
            operation = self._operation(zone, region, name)
        return operation

    def _operation(self, zone: str, region: str, name: str) -> api.Operation:
        doing = f"follow the operation {name}"
        answer: api.Operation
        if region:
            client = self._client(api.RegionOperationsClient)
            request = api.GetRegionOperationRequest(
                project=self.project, region=region, operation=name
            )
            answer = self._ask(doing, client.get, request)
        else:
            zonal = self._client(api.ZoneOperationsClient)
            answer = self._ask(
                doing,
                zonal.get,
                api.GetZoneOperationRequest(project=self.project, zone=zone, operation=name),
            )
        return answer

    def _reasons(self, zone: str, group: str) -> Sequence[tuple[str, str]]:
        """Return why single machines of a bulk insert were not created."""
        client = self._client(api.ZoneOperationsClient)
        request = api.ListZoneOperationsRequest(
            project=self.project, zone=zone, filter=f'operationGroupId = "{group}"'
        )
        pages = self._pages(f"list operations in {zone}", client.list, request)
        return [
            (one.code, one.message)
            for page in pages
            for operation in page.items
            if operation.operation_type != "bulkInsert"
            for one in operation.error.errors
        ]

    # --- requests --------------------------------------------------------------------------

    def _client(self, kind: Callable[..., T]) -> T:
        key: Any = kind
        if key not in self._clients:
            self._clients[key] = kind(
                credentials=self.identity.credentials, client_options=self._options
            )
        made: T = self._clients[key]
        return made

    def _pages(self, doing: str, call: Callable[..., Any], request: Any) -> Iterator[Any]:
        """Yield the pages of a list."""
        while True:
            page = next(iter(self._ask(doing, call, request).pages))
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _ask(self, doing: str, call: Callable[..., Any], request: Any) -> Any:
        """Send a request; retry while Google is too busy, within the time limit."""
        with probe.asked("Google"):
            return self._answered(doing, call, request)

    def _answered(self, doing: str, call: Callable[..., Any], request: Any) -> Any:
        patience = probe.patience(self.patience.retry)
        until = time.monotonic() + patience
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return call(request=request, retry=None, timeout=self.patience.request)
            except Exception as error:  # of Google's, requests' or urllib3's classes
                failure = as_error(error, doing)
                if not isinstance(failure, BusyError):
                    raise failure from error
                told = wait if failure.retry_after is None else failure.retry_after
                if time.monotonic() + told > until:
                    if patience:
                        failure.args = (f"{failure.args[0]}; {_gave_up(patience)}",)
                    raise failure from error
            time.sleep(told)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)


def _rank(error: BurstError) -> int:
    """Rank an error among several: what the user must fix comes first."""
    kinds = (AuthError, ExistsError, QuotaError, CapacityError)
    vague = isinstance(error, GoogleFailure) and error.code in VAGUE_CODES
    places = (place for place, kind in enumerate(kinds) if isinstance(error, kind))
    return next(places, len(kinds) + vague)


def _gave_up(seconds: float) -> str:
    return f"given up after {format_duration(seconds)}"


def last(path: str) -> str:
    """Return the last part of a path or URL, such as a zone's name."""
    return path.rsplit("/", 1)[-1]


@contextlib.contextmanager
def connected(identity: Identity, params: BurstParameters) -> Iterator[Compute]:
    """Open a connection, and close it."""
    patience = Patience(params.request_timeout, params.retry_timeout, params.poll_interval)
    compute = Compute(identity, params.endpoint, patience)
    try:
        yield compute
    finally:
        compute.close()
