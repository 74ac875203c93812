"""Checks of a project for ``fluxburst doctor``; they change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fluxburst import NodeType
from fluxburst.errors import AuthError, BurstError, FluxburstError, UnreachableError
from fluxburst.formats.units import counted
from fluxburst.plugin import Finding
from fluxburst.provider import probe
from fluxburst.provider.live_prices import LivePrices
from fluxburst.provider.machine_types import MachineTypes, machine_of
from fluxburst_compute_engine.machines import image_of
from fluxburst_google import prices
from fluxburst_google.errors import as_error

if TYPE_CHECKING:
    from fluxburst_compute_engine.cloud import Compute
    from fluxburst_compute_engine.parameters import BurstParameters


NEEDED = (
    "compute.disks.create",
    "compute.images.getFromFamily",
    "compute.images.useReadOnly",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setTags",
    "compute.regions.get",
    "compute.subnetworks.use",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
)
"""Permissions always needed (https://cloud.google.com/compute/docs/access/iam-permissions)."""

NEEDED_FOR = {
    "external_ip": ("compute.subnetworks.useExternalIp",),
    "compact_placement": (
        "compute.regionOperations.get",
        "compute.resourcePolicies.create",
        "compute.resourcePolicies.delete",
        "compute.resourcePolicies.list",
        "compute.resourcePolicies.use",
    ),
    "isolated_burst": ("compute.instances.getGuestAttributes",),
    "service_account": ("compute.instances.setServiceAccount", "iam.serviceAccounts.actAs"),
}
"""Additional permissions for parameters that are set."""


def project_findings(
    connected: Callable[[], AbstractContextManager[Compute]],
    params: BurstParameters,
    zones: Callable[[Compute], Sequence[str]],
) -> Iterator[Finding]:
    """Yield the findings in the project: identity, image, permissions, zones.

    Args:
        connected: Opens a connection to Google.
        params: The plugin's parameters.
        zones: Returns the zones to use, in order.
    """
    try:
        with connected() as compute:
            who = compute.identity.who
            yield Finding("ok", f"Compute Engine as {who}, in the project {compute.project}")
            yield _image(compute, params)
            yield _permissions(compute, params)
            yield Finding("ok", f"zones, in order: {', '.join(zones(compute))}")
    except UnreachableError as error:
        yield Finding("error", str(error), "check network, proxy and endpoint")
    except AuthError as error:
        yield Finding(
            "error", str(error), "see the credentials in fluxburst-compute-engine's README"
        )
    except FluxburstError as error:
        yield Finding("error", str(error), "check the parameters project, region and zones")


MOST_SHOWN = 8
"""The maximum number of node types listed one by one."""


def needed(params: BurstParameters) -> tuple[str, ...]:
    """Return the permissions needed for these parameters."""
    more = [name for field, names in NEEDED_FOR.items() if getattr(params, field) for name in names]
    return (*NEEDED, *more)


def _permissions(compute: Compute, params: BurstParameters) -> Finding:
    """Ask Google which of the permissions this identity has
    (https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions)."""
    wanted = needed(params)
    try:
        granted = _granted(compute, params, wanted)
    except BurstError as error:
        return Finding(
            "warning",
            f"cannot check this identity's permissions: {error}",
            "enable the Cloud Resource Manager API in the project to have them checked",
        )
    missing = [name for name in wanted if name not in granted]
    if missing:
        return Finding(
            "error",
            f"missing permissions in the project {compute.project}: {', '.join(missing)}",
            "create a role from fluxburst's role.yaml and grant it to this identity",
        )
    return Finding("ok", f"all needed permissions are granted in the project {compute.project}")


def _granted(compute: Compute, params: BurstParameters, wanted: tuple[str, ...]) -> frozenset[str]:
    from google.api_core.exceptions import from_http_response
    from google.auth.transport.requests import AuthorizedSession

    doing = "check permissions in the project"
    url = f"{params.resource_manager_endpoint}/v1/projects/{compute.project}:testIamPermissions"
    with (
        probe.asked("Google's Resource Manager", part_of="Google"),
        AuthorizedSession(compute.identity.credentials) as session,  # type: ignore[no-untyped-call]
    ):
        try:
            answer = session.post(
                url, json={"permissions": list(wanted)}, timeout=params.request_timeout
            )
            if answer.status_code >= 400:
                raise from_http_response(answer)  # type: ignore[no-untyped-call]
            return frozenset(answer.json().get("permissions", ()))
        except Exception as error:  # of Google's, requests' or urllib3's classes
            raise as_error(error, doing) from error


def _image(compute: Compute, params: BurstParameters) -> Finding:
    path = image_of(params, compute.project)
    try:
        found = compute.image(path)
    except UnreachableError:
        raise
    except BurstError as error:
        return Finding(
            "error", str(error), "check the parameters compute_family, image_project, image"
        )
    return Finding("ok", f"machines boot from the image {found.name}, of {path}")


def type_findings(
    kinds: Sequence[NodeType], table: MachineTypes, live: LivePrices | None, region: str
) -> Iterator[Finding]:
    """Yield the findings about node types: the source of their prices, and a summary.

    Args:
        kinds: The node types.
        table: Their machine types.
        live: The catalog's answer when they were made; None if live prices are off.
        region: Their region.
    """
    yield prices.source(live, kinds, table, region)
    if len(kinds) > MOST_SHOWN:
        yield _summary(kinds, table)
        return
    for kind in kinds:
        origin = table.origin_of(machine_of(kind.name)[0])
        if live is not None and kind.name in live.known:
            origin = "from Google's current catalog"
        yield Finding(
            "ok",
            f"{_count(kind.max_nodes)} of {kind.name}: {counted(kind.cores, 'core')}, "
            f"{counted(kind.gpus, 'GPU')}, "
            f"{kind.price:.6g} an hour ({origin})",
        )


def _summary(kinds: Sequence[NodeType], table: MachineTypes) -> Finding:
    by_price = sorted(kinds, key=lambda kind: kind.price)
    ends = [f"{one.price:.4g} ({one.name})" for one in (by_price[0], by_price[-1])]
    own = ", ".join(sorted(table.overridden))
    but = f"; {own} as set by the parameter machine_types" if own else ""
    return Finding(
        "ok", f"{counted(len(kinds), 'node type')}, from {ends[0]} to {ends[1]} an hour{but}"
    )


def _count(most: int | None) -> str:
    return "nodes" if most is None else counted(most, "node")
