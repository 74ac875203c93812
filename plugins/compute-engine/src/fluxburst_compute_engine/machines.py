"""The requests for a burst's machines, in terms of Compute Engine's API.

https://cloud.google.com/compute/docs/reference/rest/v1/instances/bulkInsert
"""

from __future__ import annotations

import base64
import importlib.resources
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fluxburst import Burst
from fluxburst.errors import BurstError
from fluxburst.provider.machine_types import machine_of
from fluxburst_compute_engine import labels
from fluxburst_compute_engine.parameters import BurstParameters

if TYPE_CHECKING:
    from google.cloud import compute_v1

HOME = "/etc/fluxburst"
"""Directory on a machine for its broker's files."""

LEAST_RUN_SECONDS, MOST_RUN_SECONDS = 30, 120 * 24 * 3600
"""The range of a maximum run duration
(https://cloud.google.com/compute/docs/instances/limit-vm-runtime)."""

CERTIFICATE, MUNGE_KEY = f"{labels.PREFIX}curve-cert", f"{labels.PREFIX}munge-key"
SECRETS = frozenset({CERTIFICATE, MUNGE_KEY})
"""The metadata keys that are removed once they are no longer needed."""

_IMMOVABLE = ("a2-", "a3-", "a4", "g2-", "g4-", "h3-", "h4d-", "m1-")
"""Machine families with machines that cannot be live-migrated."""


@dataclass(frozen=True)
class Broker:
    """The inputs of a burst's brokers.

    Attributes:
        certificate: The CURVE certificate.
        resources: The instance's R; empty for an isolated burst, which detects its resources.
        config: Their configuration, for files in :data:`HOME`.
        user: The user they run as.
        uid: That user's id.
        flux: The ``flux`` command in the image.
        munge_key: The MUNGE key; None for none.
        more: Additional metadata, by key without the prefix.
    """

    certificate: bytes
    resources: bytes
    config: str
    user: str
    uid: int
    flux: str
    munge_key: bytes | None = None
    more: Mapping[str, str] = field(default_factory=dict)


def startup_script() -> str:
    """Return the startup script: the same for all machines."""
    return importlib.resources.files(__package__).joinpath("startup.sh").read_text()


def run_seconds(burst: Burst, now: float | None = None) -> int | None:
    """Return the run duration of a burst's machines in seconds; None for unlimited.

    Raises:
        BurstError: if its lease has expired.
    """
    if burst.lease_until is None:
        return None
    seconds = math.ceil(burst.lease_until - (time.time() if now is None else now))
    if seconds <= 0:
        raise BurstError("its lease has expired")
    return min(max(seconds, LEAST_RUN_SECONDS), MOST_RUN_SECONDS)


def metadata_of(
    params: BurstParameters, instance_name: str, burst: Burst, broker: Broker
) -> dict[str, str]:
    """Return the metadata of a burst's machines, including the startup script."""
    own = {
        "curve-cert": broker.certificate.decode(),
        "resources": broker.resources.decode(),
        "config": broker.config,
        "user": broker.user,
        "uid": str(broker.uid),
        "flux": broker.flux,
        "log-level": str(params.log_level),
        "wrap": params.wrap or "",
        "munge": "false" if broker.munge_key is None else "true",
    }
    if broker.munge_key is not None:
        own["munge-key"] = base64.b64encode(broker.munge_key).decode()
    guest = {"enable-guest-attributes": "TRUE"} if burst.isolated else {}
    return {
        **labels.metadata_of(instance_name, burst),
        **{labels.PREFIX + key: value for key, value in {**own, **broker.more}.items()},
        **guest,
        "startup-script": startup_script(),
    }


def bulk_insert(
    params: BurstParameters,
    project: str,
    tag: str,
    burst: Burst,
    hosts: Sequence[str],
    metadata: Mapping[str, str],
    *,
    placement_policy: str = "",
) -> compute_v1.BulkInsertInstanceResource:
    """Return the request for a burst's machines, named like the hosts.

    Args:
        params: The plugin's parameters.
        project: The project's id.
        tag: The tag of the Flux instance that they join.
        burst: The burst.
        hosts: The hostnames of its brokers.
        metadata: The machines' metadata.
        placement_policy: The path of the resource policy for compact placement; empty for none.
    """
    from google.cloud import compute_v1 as api

    machine_type, spot = machine_of(burst.node_type)
    properties = api.InstanceProperties(
        machine_type=machine_type,
        disks=[_boot_disk(params, project)],
        network_interfaces=[_network(params, project)],
        labels=labels.labels_of(tag, burst),
        metadata=api.Metadata(
            items=[api.Items(key=key, value=value) for key, value in metadata.items()]
        ),
        scheduling=_scheduling(
            machine_type, run_seconds(burst), spot, compact=bool(placement_policy)
        ),
        tags=api.Tags(items=params.network_tags),
        resource_policies=[placement_policy] if placement_policy else [],
    )
    if params.service_account:
        scopes = [_scope(scope) for scope in params.compute_scopes]
        account = api.ServiceAccount(email=params.service_account, scopes=scopes)
        properties.service_accounts = [account]
    return api.BulkInsertInstanceResource(
        count=len(hosts),
        min_count=least(params, burst, len(hosts)),
        instance_properties=properties,
        per_instance_properties={
            host: api.BulkInsertInstanceResourcePerInstanceProperties(name=host) for host in hosts
        },
    )


def least(params: BurstParameters, burst: Burst, nodes: int) -> int:
    """Return the minimum number of a burst's nodes: an isolated one needs all of them."""
    return nodes if burst.isolated else min(params.min_count or nodes, nodes)


def image_of(params: BurstParameters, project: str) -> str:
    """Return the path of the boot image."""
    where = f"projects/{params.image_project or project}/global/images"
    if params.image is None:
        return f"{where}/family/{params.compute_family}"
    return params.image if "/" in params.image else f"{where}/{params.image}"


def _boot_disk(params: BurstParameters, project: str) -> compute_v1.AttachedDisk:
    from google.cloud import compute_v1 as api

    disk = api.AttachedDiskInitializeParams(source_image=image_of(params, project))
    if params.disk_size is not None:
        disk.disk_size_gb = params.disk_size
    if params.disk_type is not None:
        disk.disk_type = params.disk_type  # bulk inserts take a name, not a path
    return api.AttachedDisk(boot=True, auto_delete=True, initialize_params=disk)


def _network(params: BurstParameters, project: str) -> compute_v1.NetworkInterface:
    from google.cloud import compute_v1 as api

    network = api.NetworkInterface(network=_path(params.network, project, "global/networks"))
    if params.subnetwork is not None:
        where = f"regions/{params.region}/subnetworks"
        network.subnetwork = _path(params.subnetwork, project, where)
    if params.external_ip:
        access = api.AccessConfig(name="External NAT", type_="ONE_TO_ONE_NAT")
        network.access_configs = [access]
    return network


def _path(name: str, project: str, where: str) -> str:
    return name if "/" in name else f"projects/{project}/{where}/{name}"


def _scope(name: str) -> str:
    return name if "/" in name else f"https://www.googleapis.com/auth/{name}"


def _scheduling(
    machine_type: str, seconds: int | None, spot: bool, *, compact: bool
) -> compute_v1.Scheduling:
    """Return the run duration and its end action: lost machines are not replaced."""
    from google.cloud import compute_v1 as api

    scheduling = api.Scheduling(automatic_restart=False)
    if spot:
        scheduling.provisioning_model = "SPOT"
    if spot or compact or machine_type.startswith(_IMMOVABLE):
        scheduling.on_host_maintenance = "TERMINATE"
    if seconds is not None:
        scheduling.max_run_duration = api.Duration(seconds=seconds)
    if spot or seconds is not None:
        scheduling.instance_termination_action = "DELETE"
    return scheduling
