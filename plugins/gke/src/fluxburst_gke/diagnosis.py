"""Checks of the project for ``fluxburst doctor``; they change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fluxburst.errors import AuthError, FluxburstError
from fluxburst.plugin import Finding
from fluxburst.provider.probe import NotAskedError

if TYPE_CHECKING:
    from fluxburst_gke.google import Google
    from fluxburst_gke.parameters import BurstParameters

NEEDED = (
    "container.clusters.get",
    "container.clusters.getCredentials",
    "container.clusters.update",
    "container.operations.get",
)
FOR_A_CLUSTER = ("container.clusters.create", "container.clusters.delete")
FOR_AN_EXISTING_POOL = ("compute.instanceGroupManagers.get",)


def needed(params: BurstParameters) -> tuple[str, ...]:
    """Return the permissions that the parameters require."""
    return (
        *NEEDED,
        *(FOR_A_CLUSTER if params.create_cluster else ()),
        *(FOR_AN_EXISTING_POOL if params.node_pool is not None else ()),
    )


def findings(params: BurstParameters, connect: Callable[[], Google]) -> Iterator[Finding]:
    """Yield the findings: the identity, the project, and missing permissions.

    Args:
        params: The plugin's parameters.
        connect: Returns Google's APIs, with an identity and a project.
    """
    try:
        google = connect()
    except AuthError as error:
        yield Finding("error", str(error), "see the credentials in fluxburst-gke's README")
        return
    except FluxburstError as error:
        yield Finding("error", str(error), "check the parameter project")
        return
    yield Finding("ok", f"project {google.project}, as {google.identity.who}")
    wanted = needed(params)
    try:
        missing = sorted(set(wanted) - google.permitted(list(wanted)))
    except NotAskedError:  # the check of the cluster reports the cause
        return
    except FluxburstError as error:
        yield Finding(
            "warning",
            f"cannot check permissions: {error}",
            "enable the Cloud Resource Manager API in the project to have them checked",
        )
        return
    if missing:
        yield Finding(
            "error",
            f"missing permissions in the project {google.project}: {', '.join(missing)}",
            "grant a role with the permissions in fluxburst-gke's role.yaml",
        )
    else:
        yield Finding("ok", f"all needed permissions are granted in the project {google.project}")
