"""A connection to Compute Engine: requests that are asked again when told to, and operations.

Every call is for one page, one object or one change, so that what is refused is known by name. The
clients' own futures are not used: they follow operations at Google's public endpoint whatever
endpoint a client was made for.
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
"""Between requests, where Google is too busy and does not say for how long."""

VAGUE_CODES = frozenset({"VM_MIN_COUNT_NOT_REACHED"})
"""Codes of a bulk insert that only say that it failed: its instances' own operations say why."""


NOT_READY_CODES = frozenset({"RESOURCE_NOT_READY", "resourceNotReady"})
"""Codes of what cannot be done while something else is being done."""


@dataclass(frozen=True)
class Patience:
    """How long, in seconds, to wait: for an answer, for one that is too busy, between looks."""

    request: float
    retry: float
    poll: float


def request_id(tag: str, burst: str) -> str:
    """Return an id for a request that makes a burst's instances: no two are the same.

    Its first half tells the burst, so that what another process asked for is found again.
    """
    own = bytearray(_mark(tag, burst) + secrets.token_bytes(8))
    own[6] = own[6] & 0x0F | 0x40  # version 4 of RFC 9562, as far as anybody looks
    own[8] = own[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(own)))


def is_of(request: str, tag: str, burst: str) -> bool:
    """Return whether an id was made by :func:`request_id` for a burst."""
    with contextlib.suppress(ValueError):
        return uuid.UUID(request).bytes[:6] == _mark(tag, burst)[:6]
    return False


def _mark(tag: str, burst: str) -> bytes:
    return hashlib.sha256(f"{tag}\n{burst}".encode()).digest()[:8]


class Compute:
    """Compute Engine, as one identity sees one project."""

    def __init__(self, identity: Identity, endpoint: str, patience: Patience) -> None:
        self.identity = identity
        self.project = identity.require_project()
        self.patience = patience
        self._options = {"api_endpoint": endpoint} if endpoint else None
        self._clients: dict[type[Any], Any] = {}

    def close(self) -> None:
        """End its connections."""
        for client in self._clients.values():
            client.transport.close()
        self._clients.clear()

    # --- instances -------------------------------------------------------------------------

    def instances(self, labels: Mapping[str, str]) -> list[api.Instance]:
        """Return the instances that have labels, in all zones."""
        wanted = " AND ".join(f"labels.{key}={value}" for key, value in labels.items())
        client = self._client(api.InstancesClient)
        request = api.AggregatedListInstancesRequest(project=self.project, filter=wanted)
        doing = "list instances"
        found: list[api.Instance] = []
        for page in self._pages(doing, client.aggregated_list, request):
            for place, scope in page.items.items():
                if scope.warning.code == "UNREACHABLE":  # what is there is not among these
                    said = scope.warning.message or scope.warning.code
                    raise UnreachableError(f"Google could not {doing} of {place}: {said}")
                found += scope.instances
        return found

    def has(self, zone: str, name: str) -> bool:
        """Whether an instance is there.

        Raises:
            BurstError: if that cannot be told: where the zone, or the project, is not there.
        """
        client = self._client(api.InstancesClient)
        request = api.GetInstanceRequest(project=self.project, zone=zone, instance=name)
        try:
            self._ask(f"look up the instance {name} in {zone}", client.get, request)
        except NotFoundError as error:
            if f"instances/{name}" not in str(error):
                raise
            return False
        return True

    def insert(
        self, zone: str, resource: api.BulkInsertInstanceResource, request: str, doing: str
    ) -> None:
        """Make instances, and wait until they are made.

        Args:
            zone: Where.
            resource: What.
            request: The request's id: one of the same is done once.
            doing: What is being done, for errors.

        Raises:
            BurstError: or one of its kinds: what the instances' own operations say.
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
        """Return the bulk inserts of a burst that go on in a zone."""
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
        """Ask for an instance to be deleted; one that is not there is a success.

        Returns whether that was accepted: one that changes just now is to be asked for again.
        """
        client = self._client(api.InstancesClient)
        request = api.DeleteInstanceRequest(
            project=self.project, zone=last(instance.zone), instance=instance.name
        )
        try:
            with contextlib.suppress(NotFoundError):
                self._ask(f"delete the instance {instance.name}", client.delete_unary, request)
        except GoogleFailure as error:
            if error.code not in NOT_READY_CODES:
                raise
            return False
        return True

    def forget(self, instance: api.Instance, keys: frozenset[str]) -> None:
        """Take keys out of an instance's metadata."""
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
        """Return what an instance wrote to its serial port."""
        client = self._client(api.InstancesClient)
        request = api.GetSerialPortOutputInstanceRequest(
            project=self.project, zone=last(instance.zone), instance=instance.name
        )
        doing = f"read the serial port of {instance.name}"
        return str(self._ask(doing, client.get_serial_port_output, request).contents)

    def console_command(self, instance: api.Instance) -> str:
        """Return the command by which a person reads the same."""
        return (
            f"gcloud compute instances get-serial-port-output {instance.name} "
            f"--zone {last(instance.zone)} --project {self.project}"
        )

    def told(self, instance: api.Instance) -> dict[str, str]:
        """Return what an instance tells by its guest attributes of the namespace ``fluxburst``."""
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
        except NotFoundError:  # it has not told anything yet, or is not there
            return {}
        return {item.key: item.value for item in found.query_value.items}

    # --- where they are --------------------------------------------------------------------

    def zones(self, region: str) -> list[str]:
        """Return the names of a region's zones."""
        client = self._client(api.RegionsClient)
        request = api.GetRegionRequest(project=self.project, region=region)
        found = self._ask(f"look up the region {region}", client.get, request)
        return sorted(last(zone) for zone in found.zones)

    def image(self, path: str) -> api.Image:
        """Return an image, by the path of it or of its family."""
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
        """Make a policy that keeps instances close, if it is not there; return its path."""
        client = self._client(api.ResourcePoliciesClient)
        policy = api.ResourcePolicy(
            name=name,
            description=description,
            group_placement_policy=api.ResourcePolicyGroupPlacementPolicy(collocation="COLLOCATED"),
        )
        request = api.InsertResourcePolicyRequest(
            project=self.project, region=region, resource_policy_resource=policy
        )
        doing = f"make the placement policy {name}"
        with contextlib.suppress(ExistsError):
            self.wait("", self._ask(doing, client.insert_unary, request), doing, region=region)
        return f"projects/{self.project}/regions/{region}/resourcePolicies/{name}"

    def policies(self, region: str, prefix: str) -> list[api.ResourcePolicy]:
        """Return the resource policies whose names begin with something."""
        client = self._client(api.ResourcePoliciesClient)
        request = api.ListResourcePoliciesRequest(project=self.project, region=region)
        pages = self._pages("list placement policies", client.list, request)
        found = (one for page in pages for one in page.items)
        return [policy for policy in found if policy.name.startswith(prefix)]

    def delete_policy(self, region: str, name: str) -> None:
        """Delete a policy; one that is not there is a success."""
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
            BurstError: or one of its kinds, if it fails.
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
        """Return why single instances of a bulk insert were not made."""
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
        """Make a request, and again for as long as Google is too busy and patience lasts."""
        with probe.asked("Google"):
            return self._answered(doing, call, request)

    def _answered(self, doing: str, call: Callable[..., Any], request: Any) -> Any:
        patience = probe.patience(self.patience.retry)
        until = time.monotonic() + patience
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return call(request=request, retry=None, timeout=self.patience.request)
            except Exception as error:  # of Google's, requests' or urllib3's kinds
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
    """Return how much of several errors one says: what a person must mend comes first."""
    kinds = (AuthError, ExistsError, QuotaError, CapacityError)
    vague = isinstance(error, GoogleFailure) and error.code in VAGUE_CODES
    places = (place for place, kind in enumerate(kinds) if isinstance(error, kind))
    return next(places, len(kinds) + vague)


def _gave_up(seconds: float) -> str:
    return f"given up after {format_duration(seconds)}"


def last(path: str) -> str:
    """Return the name at the end of a path or URL, such as a zone's."""
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
