"""Parameters of every plugin for managed clusters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from fluxburst import Duration
from fluxburst.provider.machine_types import MachineTypeOverride, Provisioning
from fluxburst_kubernetes.parameters import MiniClusterParameters


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class ManagedParameters(MiniClusterParameters):
    """Parameters of every plugin for managed clusters."""

    cluster_name: str = field(
        default="flux-bursted-cluster", metadata=_help("the provider's name of the cluster")
    )
    create_cluster: bool = field(
        default=False, metadata=_help("create the cluster if it does not exist; this takes minutes")
    )
    keep_cluster: bool = field(
        default=True,
        metadata=_help("keep a cluster created by fluxburst after its last burst"),
    )
    node_pool: Optional[str] = field(  # noqa: UP045 - as written in the documentation
        default=None,
        metadata=_help(
            "existing node pool that grows for bursts and shrinks back with the "
            "last; by default each burst has its own"
        ),
    )
    machine_type: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("the only machine type to use; by default all that init declared hosts for"),
    )
    machine_types: list[MachineTypeOverride] = field(
        default_factory=list,
        metadata=_help("changes to machine types of the table, or complete new ones: tables"),
    )
    provisioning: Provisioning = field(
        default="on-demand",
        metadata=_help("how machines are bought: the cheapest available of these"),
    )
    pool_timeout: Duration = field(
        default=Duration(540.0),
        metadata=_help("how long creating a node pool (in all zones) or deleting one may take"),
    )
