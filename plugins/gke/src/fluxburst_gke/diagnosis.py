"""What ``fluxburst doctor`` says of the project; it changes nothing there."""

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
    """Return the permissions that it takes to do what the parameters say."""
    return (
        *NEEDED,
        *(FOR_A_CLUSTER if params.create_cluster else ()),
        *(FOR_AN_EXISTING_POOL if params.node_pool is not None else ()),
    )


def findings(params: BurstParameters, connect: Callable[[], Google]) -> Iterator[Finding]:
    """Yield what is found: who asks, in which project, and what is not permitted.

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
        yield Finding("error", str(error), "see the parameter project")
        return
    yield Finding("ok", f"project {google.project}, as {google.identity.who}")
    wanted = needed(params)
    try:
        missing = sorted(set(wanted) - google.permitted(list(wanted)))
    except NotAskedError:  # what keeps it from that is said of the cluster
        return
    except FluxburstError as error:
        yield Finding(
            "warning",
            f"what is permitted cannot be told: {error}",
            "enable the Cloud Resource Manager API in the project to have it checked",
        )
        return
    if missing:
        yield Finding(
            "error",
            f"not permitted in the project {google.project}: {', '.join(missing)}",
            "have a role with what fluxburst-gke's role.yaml names be granted",
        )
    else:
        yield Finding("ok", f"all that is needed is permitted in the project {google.project}")
