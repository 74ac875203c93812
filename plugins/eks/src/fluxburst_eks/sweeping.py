"""Node groups of any instance whose lease has ended: EKS ends none automatically.

A running fluxburst terminates its bursts itself. This is for leftovers of one that no longer runs,
from any machine with credentials: it needs neither Flux nor an instance's directory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluxburst_eks import nodegroups
from fluxburst_eks.tags import record_of

if TYPE_CHECKING:
    from fluxburst_eks.aws import Aws


@dataclass(frozen=True)
class Ended:
    """A node group created by fluxburst whose lease has ended.

    Attributes:
        name: Its name.
        instance: The tag of its instance.
        nodes: Number of its nodes.
        machine_type: Their machine type.
        since: When its lease ended, in seconds since the epoch.
        price: Hourly price of one node.
    """

    name: str
    instance: str
    nodes: int
    machine_type: str
    since: float
    price: float


def ended(aws: Aws, cluster: str, grace: float) -> Iterator[Ended]:
    """Yield the node groups of a cluster whose lease ended some time ago.

    Skips groups without a lease, grown ones, and those of others.

    Args:
        aws: The account.
        cluster: The cluster's name.
        grace: Seconds since the end of the lease: fluxburst may still be terminating it.
    """
    for name in nodegroups.names(aws, cluster):
        found = nodegroups.describe(aws, cluster, name)
        record = None if found is None else record_of(found.tags)
        if found is None or record is None or record.former_size is not None:
            continue
        if record.lease_until is not None and record.lease_until + grace < time.time():
            yield Ended(
                name,
                record.tag,
                found.nodes,
                found.machine_type,
                record.lease_until,
                record.price,
            )
