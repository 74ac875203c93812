"""Compute Engine for tests: its REST API on loopback, and what becomes of its instances.

Bodies are read as the protobufs of Google's own library, strictly, so that a wrong field is an
error. Operations take a number of requests to come to their end, whoever makes them. Where there
is a Flux, a machine runs the startup script in its metadata, and so starts a real broker.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google.auth.jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import compute_v1 as api
from tests.elastic_instance import free_port

PROJECT, REGION = "test-project", "us-central1"
FAMILY = "flux-fw-bursted-x86-64"
WHO = f"burst@{PROJECT}.iam.gserviceaccount.com"
UNIVERSE = "cloud.test"
END_SECONDS = 30.0

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")


def stamp(seconds: float) -> str:
    """Return a time as the API has it."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    return at.isoformat(timespec="milliseconds")


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer with an error in it."""

    body: Any

    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        one = {"message": message, "domain": "global", "reason": reason}
        self.body = {"error": {"code": status, "message": message, "errors": [one]}}


class Page(Refusal):
    """An answer of what stands before Google, such as a proxy's page."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, "", "")
        self.body = body


class Dropped(Exception):  # noqa: N818 - it is what becomes of a request
    """What :attr:`Site.before` raises to have a request dropped, as if it had never come."""


@dataclass
class Running:
    """An operation that is not done yet: what it does at each of the requests that are left."""

    operation: api.Operation
    steps: list[Callable[[], None]]


@dataclass
class Machine:
    """An instance, and its startup script where that runs."""

    instance: api.Instance
    guest_attributes: dict[str, str] = field(default_factory=dict)
    root: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """Its metadata by key."""
        return {item.key: item.value for item in self.instance.metadata.items}

    def end(self) -> None:
        """End what it runs, kindly at first."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Site:
    """A project of Compute Engine.

    Attributes:
        zones: Its zones, of one region.
        full: What it has no capacity for: zones, machine types, ``ZONE/TYPE``, ``SPOT``, or ``*``.
        partly: How many instances of a bulk insert are made before capacity is out, by zone.
        quota: How many instances there may be; None for no limit.
        denied: Permissions that the identity has not.
        joins: Machines run their startup script.
        polls: How many requests an operation takes.
        page: How many entries a page of a list has.
        skew: By how many seconds its clock is ahead.
        requests: The calls that were made.
        before: Told the number of each request, from 1, before the server acts.
        after: Likewise, before it answers.
        faults: Errors to be sent: of a call, one after the other.
        away: Zones that lists do not tell of.
    """

    def __init__(self, *, joins: bool = False) -> None:
        self.zones = [f"{REGION}-{letter}" for letter in "abc"]
        self.families = {FAMILY: f"{FAMILY}-v20260801"}
        self.full: set[str] = set()
        self.partly: dict[str, int] = {}
        self.quota: int | None = None
        self.denied: set[str] = set()
        self.joins = joins
        self.polls = 2
        self.page = 500
        self.skew = 0.0
        self.requests: list[str] = []
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], None] = lambda number: None
        self.faults: dict[str, list[Refusal]] = {}
        self.away: set[str] = set()
        self.machines: dict[tuple[str, str], Machine] = {}
        self.policies: dict[str, api.ResourcePolicy] = {}
        self.operations: dict[str, api.Operation] = {}
        self.problems: list[str] = []
        self._ports: dict[str, int] = {}
        self._seen_ids: dict[str, api.Operation] = {}
        self._running: list[Running] = []
        self._lock = threading.RLock()
        self._directory = Path(tempfile.mkdtemp(prefix="fb-"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.key = _service_account(self._directory / "key.json", self.endpoint)

    # --- for tests -------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What names the credentials that it accepts.

        In a universe of its own, since in Google's each new key is looked up at Google.
        """
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": str(self.key),
            "GOOGLE_CLOUD_UNIVERSE_DOMAIN": UNIVERSE,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the plugin for it."""
        return {
            "endpoint": self.endpoint,
            "resource_manager_endpoint": self.endpoint,
            "live_prices": False,
            "poll_interval": 0.02,
            "retry_timeout": 5.0,
        }

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, and end what machines run."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for machine in self.machines.values():
            machine.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    def left(self) -> list[str]:
        """Return what is there: instances and placement policies."""
        with self._lock:
            return sorted([*(name for _, name in self.machines), *self.policies])

    def fail(
        self,
        call: str,
        status: int,
        reason: str,
        message: str = "",
        *,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Have the next calls of a kind, such as ``instances.bulkInsert``, answered by an error."""
        refusal = Refusal(status, reason, message or f"{reason} happened", headers)
        self.faults.setdefault(call, []).extend([refusal] * times)

    def settle(self) -> None:
        """Let all operations come to their end."""
        with self._lock:
            while self._running:
                self._tick()

    def pass_time(self, seconds: float) -> None:
        """Let time go by for the instances that there are, and end those whose time is over."""
        with self._lock:
            self.skew += seconds
            self._tick()
            self.skew -= seconds

    def logs(self) -> str:
        """Return what startup scripts and brokers wrote."""
        return "\n".join(path.read_text() for path in self._directory.glob("*/log"))

    def brokers(self) -> dict[str, subprocess.Popen[bytes]]:
        """Return what machines run, by hostname."""
        return {
            name: machine.process
            for (_, name), machine in self.machines.items()
            if machine.process is not None
        }

    def lose(self, name: str) -> None:
        """Take an instance back, as spot instances are."""
        with self._lock:
            for key in [key for key in self.machines if key[1] == name]:
                self.machines.pop(key).end()

    # --- requests --------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: Mapping[str, str], body: str) -> Any:
        """Act on a request; return what is answered, as JSON."""
        for verb, pattern, call, permission, act in self._routes():
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                self.requests.append(call)
                self._tick()
                if self.faults.get(call):
                    raise self.faults[call].pop(0)
                if permission in self.denied:
                    said = f"Required '{permission}' permission for 'projects/{PROJECT}'"
                    raise Refusal(403, "forbidden", said)
                return act(*match.groups(), query=query, body=body)
        raise Refusal(404, "notFound", f"{method} {path} is not known here")

    def _routes(self) -> list[tuple[str, str, str, str, Callable[..., Any]]]:
        project = f"/compute/v1/projects/{PROJECT}"
        zone, region = f"{project}/zones/([^/]+)", f"{project}/regions/([^/]+)"
        instance = f"{zone}/instances/([^/]+)"
        get, post, delete = "GET", "POST", "DELETE"
        return [
            (post, f"{zone}/instances/bulkInsert", "instances.bulkInsert",
             "compute.instances.create", self._bulk_insert),
            (get, f"{project}/aggregated/instances", "instances.aggregatedList",
             "compute.instances.list", self._list),
            (get, instance, "instances.get", "compute.instances.get", self._get),
            (delete, instance, "instances.delete", "compute.instances.delete", self._delete),
            (post, f"{instance}/setMetadata", "instances.setMetadata",
             "compute.instances.setMetadata", self._set_metadata),
            (get, f"{instance}/serialPort", "instances.getSerialPortOutput",
             "compute.instances.getSerialPortOutput", self._serial_port),
            (get, f"{instance}/getGuestAttributes", "instances.getGuestAttributes",
             "compute.instances.getGuestAttributes", self._guest_attributes),
            (get, f"{zone}/operations", "zoneOperations.list",
             "compute.zoneOperations.list", self._list_operations),
            (get, f"{zone}/operations/([^/]+)", "zoneOperations.get",
             "compute.zoneOperations.get", self._operation),
            (get, f"{region}/operations/([^/]+)", "regionOperations.get",
             "compute.regionOperations.get", self._operation),
            (get, region, "regions.get", "compute.regions.get", self._region),
            (get, f"{project}/global/images/family/([^/]+)", "images.getFromFamily",
             "compute.images.getFromFamily", self._family),
            (get, f"{region}/resourcePolicies", "resourcePolicies.list",
             "compute.resourcePolicies.list", self._list_policies),
            (post, f"{region}/resourcePolicies", "resourcePolicies.insert",
             "compute.resourcePolicies.create", self._insert_policy),
            (delete, f"{region}/resourcePolicies/([^/]+)", "resourcePolicies.delete",
             "compute.resourcePolicies.delete", self._delete_policy),
            (post, f"/v1/projects/{PROJECT}:testIamPermissions", "testIamPermissions", "",
             self._test_permissions),
        ]  # fmt: skip

    def now(self) -> float:
        """Return its time."""
        return time.time() + self.skew

    def _tick(self) -> None:
        """Let each operation do its next step, and end what has run for long enough."""
        for running in list(self._running):
            running.steps.pop(0)()
            if not running.steps:
                self._running.remove(running)
                running.operation.status = api.Operation.Status.DONE  # type: ignore[assignment]
                running.operation.progress = 100
        for key, machine in list(self.machines.items()):
            limit = machine.instance.scheduling.max_run_duration.seconds
            began = datetime.fromisoformat(machine.instance.creation_timestamp).timestamp()
            if limit and self.now() > began + limit:
                machine.end()
                del self.machines[key]
            elif machine.process is not None and machine.process.poll() is not None:
                machine.process = None
                machine.instance.status = "TERMINATED"

    def _start(
        self,
        kind: str,
        where: Mapping[str, str],
        steps: list[Callable[[], None]],
        request_id: str = "",
        group: str = "",
    ) -> api.Operation:
        name = f"operation-{len(self.operations)}"
        operation = api.Operation(
            name=name,
            operation_type=kind,
            status=api.Operation.Status.RUNNING,
            client_operation_id=request_id,
            operation_group_id=group,
            progress=0,
            **where,
        )
        self.operations[name] = operation
        waits: list[Callable[[], None]] = [lambda: None] * max(0, self.polls - len(steps))
        self._running.append(Running(operation, [*waits, *steps]))
        if request_id:
            self._seen_ids[request_id] = operation
        return operation

    def _bulk_insert(self, zone: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        request_id = query.get("requestId", "")
        if request_id in self._seen_ids:
            return _json(self._seen_ids[request_id])
        resource = api.BulkInsertInstanceResource.from_json(body, ignore_unknown_fields=False)
        self._check(zone, resource)
        group = f"group-{len(self.operations)}"
        names = list(resource.per_instance_properties)
        made: list[str] = []

        def provision() -> None:
            for name in names[: self._room(zone, resource)]:
                if not any(other == name for _, other in self.machines):
                    made.append(name)
                    self._add(zone, name, resource.instance_properties)

        def finish() -> None:
            missing = [name for name in names if name not in made]
            if len(made) < resource.min_count:
                for name in made:
                    self.machines.pop((zone, name), Machine(api.Instance())).end()
                self._explain(operation, zone, resource, missing, group)
                return
            for name in made:
                if (zone, name) in self.machines:
                    self._boot(zone, name)

        where = {"zone": self._zone_url(zone)}
        operation = self._start("bulkInsert", where, [provision, finish], request_id, group)
        return _json(operation)

    def _room(self, zone: str, resource: api.BulkInsertInstanceResource) -> int:
        kind = resource.instance_properties.machine_type
        if self.quota is not None and len(self.machines) + resource.count > self.quota:
            return 0
        model = resource.instance_properties.scheduling.provisioning_model
        if self.full & {"*", zone, kind, f"{zone}/{kind}", model}:
            return 0
        return min(resource.count, self.partly.get(zone, resource.count))

    def _explain(
        self,
        operation: api.Operation,
        zone: str,
        resource: api.BulkInsertInstanceResource,
        missing: list[str],
        group: str,
    ) -> None:
        """Fail a bulk insert as Google does: vaguely, and its instances' operations say why."""
        said = f"Requested minimum count of {resource.min_count} VMs could not be created."
        operation.error.errors = [api.Errors(code="VM_MIN_COUNT_NOT_REACHED", message=said)]
        kind = resource.instance_properties.machine_type
        for name in missing:
            if any(other == name for _, other in self.machines):
                path = f"projects/{PROJECT}/zones/{zone}/instances/{name}"
                code = "RESOURCE_ALREADY_EXISTS"
                message = f"The resource '{path}' already exists"
            elif self.quota is not None and len(self.machines) + resource.count > self.quota:
                code = "QUOTA_EXCEEDED"
                message = f"Quota 'CPUS' exceeded. Limit: {self.quota} in region {REGION}."
            else:
                code = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
                message = f"The zone '{zone}' does not have enough resources for {kind}"
            own = self._start("insert", {"zone": self._zone_url(zone)}, [lambda: None], "", group)
            own.error.errors = [api.Errors(code=code, message=message)]

    def _check(self, zone: str, resource: api.BulkInsertInstanceResource) -> None:
        """Refuse what Google refuses."""
        properties = resource.instance_properties
        scheduling = properties.scheduling
        limit = scheduling.max_run_duration.seconds
        problems = {
            f"zone {zone}": zone not in self.zones,
            "count": resource.count != len(resource.per_instance_properties),
            "minCount": not 1 <= resource.min_count <= resource.count,
            "names": not all(map(_NAME.fullmatch, resource.per_instance_properties)),
            "labels": not all(map(_LABEL.fullmatch, properties.labels.values())),
            "maxRunDuration": bool(limit) and not 30 <= limit <= 120 * 24 * 3600,
            "instanceTerminationAction": bool(limit)
            and scheduling.instance_termination_action != "DELETE",
            "automaticRestart": scheduling.provisioning_model == "SPOT"
            and scheduling.automatic_restart,
            "machineType is a path": "/" in properties.machine_type,
            "metadata": sum(len(item.value) for item in properties.metadata.items) > 512 * 1024,
        }
        wrong = [name for name, is_wrong in problems.items() if is_wrong]
        if wrong:
            self.problems += wrong
            raise Refusal(400, "invalid", f"Invalid value: {', '.join(wrong)}")
        image = properties.disks[0].initialize_params.source_image
        if image.rpartition("/")[2] not in {*self.families, *self.families.values()}:
            raise Refusal(404, "notFound", f"The resource '{image}' was not found")
        for path in properties.resource_policies:
            if path.rpartition("/")[2] not in self.policies:
                raise Refusal(404, "notFound", f"The resource '{path}' was not found")

    def _zone_url(self, zone: str) -> str:
        return f"{self.endpoint}/compute/v1/projects/{PROJECT}/zones/{zone}"

    def _add(self, zone: str, name: str, properties: api.InstanceProperties) -> None:
        self.machines[zone, name] = Machine(
            api.Instance(
                name=name,
                zone=self._zone_url(zone),
                status="PROVISIONING",
                creation_timestamp=stamp(self.now()),
                machine_type=f"{self._zone_url(zone)}/machineTypes/{properties.machine_type}",
                labels=dict(properties.labels),
                metadata=api.Metadata(fingerprint="0", items=list(properties.metadata.items)),
                scheduling=properties.scheduling,
                resource_policies=list(properties.resource_policies),
            )
        )

    def _boot(self, zone: str, name: str) -> None:
        machine = self.machines[zone, name]
        machine.instance.status = "RUNNING"
        machine.instance.last_start_timestamp = stamp(self.now())
        if self.joins:
            self._run_startup_script(zone, name, machine)

    def _run_startup_script(self, zone: str, name: str, machine: Machine) -> None:
        machine.root = self._directory / str(len(list(self._directory.iterdir())))
        machine.root.mkdir()
        script = machine.root / "startup-script"
        script.write_text(machine.metadata["startup-script"])
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLUX")}
        environment |= {
            "FLUXBURST_METADATA": f"{self.endpoint}/computeMetadata/v1/{zone}/{name}",
            "FLUXBURST_ROOT": str(machine.root),
            "SHELL": "/bin/sh",
        }
        with (machine.root / "log").open("wb") as log:
            machine.process = subprocess.Popen(
                ["sh", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def metadata_value(self, zone: str, name: str, path: str) -> str:
        """Return what the metadata server tells an instance."""
        machine = self.machines[zone, name]
        if path == "name":
            return name
        value = machine.metadata[path.removeprefix("attributes/")]
        if path.endswith("fluxburst-config") and machine.root is not None:
            value = value.replace("/etc/fluxburst", f"{machine.root}/etc/fluxburst")
            lead = machine.metadata.get("fluxburst-lead")
            if lead:  # names of instances resolve in Google's networks, and not here
                here = f"tcp://127.0.0.1:{self._ports.setdefault(lead, free_port())}"
                value = value.replace(f"tcp://{lead}:8050", here).replace("tcp://*:8050", here)
        return value

    def tell(self, zone: str, name: str, key: str, value: str) -> None:
        """Take a guest attribute that an instance tells."""
        self.machines[zone, name].guest_attributes[key] = value

    def _list(self, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        wanted = dict(
            part.removeprefix("labels.").split("=", 1)
            for part in query.get("filter", "").split(" AND ")
        )
        found = [
            (zone, machine.instance)
            for (zone, _), machine in sorted(self.machines.items())
            if wanted.items() <= dict(machine.instance.labels).items()
        ]
        first = int(query.get("pageToken") or 0)
        answer = api.InstanceAggregatedList()
        for zone in self.zones:
            here = [one for at, one in found[first : first + self.page] if at == zone]
            scope = api.InstancesScopedList(instances=here)
            if zone in self.away:
                scope = api.InstancesScopedList(warning=api.Warning(code="UNREACHABLE"))
            answer.items[f"zones/{zone}"] = scope
        if first + self.page < len(found):
            answer.next_page_token = str(first + self.page)
        return _json(answer)

    def _delete(
        self, zone: str, name: str, *, query: Mapping[str, str], body: str
    ) -> dict[str, Any]:
        machine = self._machine(zone, name)

        def stop() -> None:
            machine.instance.status = "STOPPING"

        def gone() -> None:
            machine.end()
            self.machines.pop((zone, name), None)

        return _json(self._start("delete", {"zone": self._zone_url(zone)}, [stop, gone]))

    def _machine(self, zone: str, name: str) -> Machine:
        machine = self.machines.get((zone, name))
        if machine is None:
            path = f"projects/{PROJECT}/zones/{zone}/instances/{name}"
            raise Refusal(404, "notFound", f"The resource '{path}' was not found")
        return machine

    def _get(self, zone: str, name: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        return _json(self._machine(zone, name).instance)

    def _set_metadata(
        self, zone: str, name: str, *, query: Mapping[str, str], body: str
    ) -> dict[str, Any]:
        machine = self._machine(zone, name)
        given = api.Metadata.from_json(body, ignore_unknown_fields=False)
        if given.fingerprint != machine.instance.metadata.fingerprint:
            raise Refusal(412, "conditionNotMet", "Supplied fingerprint does not match")
        given.fingerprint += "1"
        machine.instance.metadata = given
        return _json(self._start("setMetadata", {"zone": self._zone_url(zone)}, []))

    def _serial_port(
        self, zone: str, name: str, *, query: Mapping[str, str], body: str
    ) -> dict[str, Any]:
        machine = self._machine(zone, name)
        log = machine.root / "log" if machine.root else None
        contents = log.read_text() if log else "boot\nfluxburst: there is no flux in this image\n"
        return _json(api.SerialPortOutput(contents=contents))

    def _guest_attributes(
        self, zone: str, name: str, *, query: Mapping[str, str], body: str
    ) -> dict[str, Any]:
        machine = self._machine(zone, name)
        if not machine.guest_attributes:
            raise Refusal(
                404, "notFound", "The resource 'fluxburst/' of guest attributes is absent"
            )
        items = [
            api.GuestAttributesEntry(namespace="fluxburst", key=key, value=value)
            for key, value in machine.guest_attributes.items()
        ]
        return _json(api.GuestAttributes(query_value=api.GuestAttributesValue(items=items)))

    def _list_operations(self, zone: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        wanted = query.get("filter", "")
        found = [one for one in self.operations.values() if one.zone == self._zone_url(zone)]
        if "operationGroupId" in wanted:
            group = wanted.split('"')[1]
            found = [one for one in found if one.operation_group_id == group]
        else:
            done = api.Operation.Status.DONE
            found = [o for o in found if o.operation_type == "bulkInsert" and o.status != done]
        return _json(api.OperationList(items=found))

    def _operation(
        self, where: str, name: str, *, query: Mapping[str, str], body: str
    ) -> dict[str, Any]:
        return _json(self.operations[name])

    def _region(self, region: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        if region != REGION:
            raise Refusal(404, "notFound", f"The resource 'regions/{region}' was not found")
        return _json(api.Region(name=region, zones=[self._zone_url(zone) for zone in self.zones]))

    def _family(self, family: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        if family not in self.families:
            raise Refusal(404, "notFound", f"The resource 'family/{family}' was not found")
        return _json(api.Image(name=self.families[family], family=family))

    def _list_policies(self, region: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        return _json(api.ResourcePolicyList(items=list(self.policies.values())))

    def _insert_policy(self, region: str, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        policy = api.ResourcePolicy.from_json(body, ignore_unknown_fields=False)
        if policy.name in self.policies:
            raise Refusal(409, "alreadyExists", f"The resource '{policy.name}' already exists")
        self.policies[policy.name] = policy
        return _json(self._start("insert", {"region": region}, []))

    def _delete_policy(
        self, region: str, name: str, *, query: Mapping[str, str], body: str
    ) -> dict[str, Any]:
        if name not in self.policies:
            raise Refusal(404, "notFound", f"The resource '{name}' was not found")
        paths = [p for m in self.machines.values() for p in m.instance.resource_policies]
        if any(path.endswith(name) for path in paths):
            raise Refusal(400, "resourceInUseByAnotherResource", f"'{name}' is being used")
        del self.policies[name]
        return _json(self._start("delete", {"region": region}, []))

    def _test_permissions(self, *, query: Mapping[str, str], body: str) -> dict[str, Any]:
        wanted = json.loads(body)["permissions"]
        return {"permissions": [name for name in wanted if name not in self.denied]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, site: Site, *args: Any) -> None:
        self.site = site
        super().__init__(*args)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        _, _, _, zone, name, what, _, key = self.path.split("/", 7)
        value = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        assert what == "guest-attributes"
        with self.site._lock:
            self.site.tell(zone, name, key, value)
        self._send(200, b"", {})

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        if url.path.startswith("/computeMetadata/"):
            self._answer_machine(url.path)
            return
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        site = self.site
        with site._lock:
            number = len(site.requests) + 1
        try:
            site.before(number)
        except Dropped:
            self.close_connection = True
            return
        status, headers = 200, {}
        try:
            self._check_identity()
            with site._lock:
                content = site.answer(self.command, unquote(url.path), query, body)
        except Refusal as refusal:
            status, headers, content = refusal.status, refusal.headers, refusal.body
        site.after(number)
        page = content if isinstance(content, bytes) else json.dumps(content).encode()
        self._send(status, page, headers)

    def _check_identity(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            told = google.auth.jwt.decode(token, verify=False)  # type: ignore[no-untyped-call]
        except ValueError:
            told = {}
        if scheme != "Bearer" or told.get("iss") != WHO:
            said = "Request had invalid authentication credentials."
            raise Refusal(401, "authError", said)

    def _answer_machine(self, path: str) -> None:
        _, _, _, zone, name, key = path.split("/", 5)
        try:
            if self.headers.get("Metadata-Flavor") != "Google":
                raise KeyError("Metadata-Flavor")
            with self.site._lock:
                content = self.site.metadata_value(zone, name, key)
        except KeyError:
            self._send(404, b"not found", {})
        else:
            self._send(200, content.encode(), {})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(ConnectionError):  # who asked may be dead
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)


def _json(message: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        type(message).to_json(
            message,
            use_integers_for_enums=False,
            always_print_fields_with_no_presence=False,
        )
    )
    return answer


@functools.cache
def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _service_account(path: Path, endpoint: str) -> Path:
    """Write the key of a service account; it is asked for no token anywhere."""
    content = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "1",
        "private_key": _private_key(),
        "client_email": WHO,
        "client_id": "1",
        "token_uri": f"{endpoint}/token",
        "universe_domain": UNIVERSE,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
    return path


@contextmanager
def compute_engine(*, joins: bool = False) -> Iterator[Site]:
    """Run a project of Compute Engine; where it joins, machines run their startup scripts."""
    site = Site(joins=joins)
    site.start()
    try:
        yield site
    finally:
        site.stop()
    assert site.problems == []
