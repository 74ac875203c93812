"""Node groups whose lease has ended, of any instance: EKS itself ends none of them.

Where fluxburst runs, it takes its bursts down itself. This is for where it does not any more, from
any machine that has the credentials: no Flux is needed, and no instance's directory.
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
    """A node group that fluxburst made, and whose lease has ended.

    Attributes:
        name: Its name.
        instance: The tag of the instance that it is of.
        nodes: How many nodes it has.
        machine_type: What they are.
        since: When its lease ended, in seconds since the epoch.
        price: What one node costs an hour.
    """

    name: str
    instance: str
    nodes: int
    machine_type: str
    since: float
    price: float


def ended(aws: Aws, cluster: str, grace: float) -> Iterator[Ended]:
    """Yield the node groups of a cluster whose lease ended some time ago.

    A group without a lease, one that was only grown, and one of others are none of these.

    Args:
        aws: The account.
        cluster: The cluster's name.
        grace: For how many seconds it has to have ended: fluxburst may be taking it down.
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
