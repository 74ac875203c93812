"""Parameters of every plugin for clusters that a provider manages."""

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
    """Parameters of every plugin for clusters that a provider manages."""

    cluster_name: str = field(
        default="flux-bursted-cluster", metadata=_help("the provider's name of the cluster")
    )
    create_cluster: bool = field(
        default=False, metadata=_help("make the cluster where it is not there; this takes minutes")
    )
    keep_cluster: bool = field(
        default=True,
        metadata=_help("keep a cluster that fluxburst made when its last burst is gone"),
    )
    node_pool: Optional[str] = field(  # noqa: UP045 - as written in the documentation
        default=None,
        metadata=_help(
            "a node pool that is there, to be grown for bursts and given its size back with the "
            "last; by default each burst has one of its own"
        ),
    )
    machine_type: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata=_help("the one machine type to use; by default all that init declared hosts of"),
    )
    machine_types: list[MachineTypeOverride] = field(
        default_factory=list,
        metadata=_help("what differs of machine types in the table, or all of others: tables"),
    )
    provisioning: Provisioning = field(
        default="on-demand",
        metadata=_help("how machines are bought: the cheapest that is there, of what is named"),
    )
    pool_timeout: Duration = field(
        default=Duration(540.0),
        metadata=_help("how long a node pool may take to come up, in all zones, or to go"),
    )
