"""The burst plugin ``mock``: a template for plugins that create exactly the planned bursts."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from fluxburst import Burst, BurstState, ByteSize, Duration, NodeType
from fluxburst.errors import BurstError, CapacityError, QuotaError
from fluxburst.formats.units import counted
from fluxburst.plugin import RUN_AS_HELP, RunAs
from fluxburst.provider.elastic_plugin import JoiningPlugin
from fluxburst.testing import EmbeddedInstance
from fluxburst_mock.cloud import Cloud, Machines, cloud_of
from fluxburst_mock.failures import Failure, FailureKind, Injector, SimulatedCrash

GIB = 2**30
SLOWNESS = 10


def _node_types() -> list[NodeType]:
    return [
        NodeType("small", cores=8, memory=ByteSize(32 * GIB), price=0.40, max_nodes=64),
        NodeType("large", cores=32, memory=ByteSize(128 * GIB), price=1.50, max_nodes=32),
        NodeType("gpu", cores=16, gpus=4, memory=ByteSize(128 * GIB), price=6.00, max_nodes=16),
    ]


@dataclass
class BurstParameters:
    """Parameters of the mock plugin."""

    node_types: list[NodeType] = field(
        default_factory=_node_types,
        metadata={"help": "node types: name, cores, gpus, memory, price, max_nodes, properties"},
    )
    boot_delay: Duration = field(
        default=Duration(30.0), metadata={"help": "how long nodes take to join"}
    )
    failures: list[Failure] = field(
        default_factory=list,
        metadata={"help": "failures to inject: kind, times (0: always), probability"},
    )
    seed: int = field(default=0, metadata={"help": "seed of the failures' probabilities"})
    isolated_burst: bool = field(
        default=False, metadata={"help": "run each job in its own instance"}
    )
    run_as: RunAs = field(default="owner", metadata={"help": f"{RUN_AS_HELP}; no effect here"})
    isolated_run: Duration = field(
        default=Duration(60.0), metadata={"help": "how long a job runs there"}
    )
    isolated_exit_code: int = field(default=0, metadata={"help": "exit code of a job there"})


class MockBurst(JoiningPlugin):
    """Supplies nodes to an embedded instance; on a live one its nodes exist in name only."""

    _param_dataclass = BurstParameters
    name = "mock"

    params: BurstParameters
    injector: Injector
    """Injects failures; more can be added at any time."""

    def __init__(self, dataclass: BurstParameters) -> None:
        super().__init__(dataclass)
        self.injector = Injector(self.params.failures, self.params.seed)

    @property
    def cloud(self) -> Cloud:
        """The cloud of its machines."""
        return cloud_of(self.instance, self.name)

    def node_types(self) -> Sequence[NodeType]:
        """Return the node types of the parameters."""
        return self.params.node_types

    def create(self, burst: Burst) -> Burst:
        """Create machines whose brokers join after the boot delay, or find existing ones."""
        machines = self.cloud.machines.get(burst.name)
        if machines is None:
            machines = self._make(burst)
        if burst.isolated:
            return replace(self._isolated(burst, machines), since=machines.since)
        return replace(
            burst,
            state=BurstState.STARTING,
            hostnames=machines.hostnames,
            since=machines.since,
            lease_until=machines.lease_until,
        )

    def renew(self, burst: Burst) -> Burst:
        """Extend the lease of the machines."""
        machines = self.cloud.machines.get(burst.name)
        if machines is None:
            raise BurstError("there is no such burst to renew", plugin=self.name, burst=burst.name)
        self.cloud.machines[burst.name] = replace(machines, lease_until=burst.lease_until)
        self._arm(burst.name, burst.lease_until)
        return burst

    def delete(self, burst: Burst) -> None:
        """Delete machines; their nodes leave the instance."""
        if burst.name in self.cloud.machines and self.injector.strikes(FailureKind.DELETE_FAILS):
            raise BurstError("the cloud did not delete it", plugin=self.name, burst=burst.name)
        hostnames = self.cloud.take(burst.name, self.instance.now())
        if isinstance(self.instance, EmbeddedInstance):
            self.instance.remove_nodes(hostnames)

    def list_bursts(self) -> Collection[str]:
        """Return the cloud's list."""
        if self.injector.strikes(FailureKind.LIST_FAILS):
            raise BurstError("the cloud does not answer", plugin=self.name)
        return [name for name, machines in self.cloud.machines.items() if machines.listed]

    def adopt(self) -> Sequence[Burst]:
        """Return the bursts in the cloud's list, in their current state."""
        return [
            self._found(name, machines)
            for name in self.list_bursts()
            if (machines := self.cloud.machines.get(name)) is not None
        ]

    def _found(self, name: str, machines: Machines) -> Burst:
        burst = Burst(
            name,
            self.name,
            machines.node_type.name,
            len(machines.hostnames),
            state=BurstState.STARTING,
            hostnames=() if machines.isolated else machines.hostnames,
            price=machines.node_type.price,
            since=machines.since,
            lease_until=machines.lease_until,
            isolated=machines.isolated,
        )
        return self._isolated(burst, machines) if machines.isolated else burst

    def _isolated(self, burst: Burst, machines: Machines) -> Burst:
        """Return an isolated burst at the current time: its job starts, runs, and ends."""
        ran = self.instance.now() - machines.joining_at
        state = BurstState.STARTING if ran < 0 else BurstState.READY
        ended = ran >= self.params.isolated_run
        code = self.params.isolated_exit_code if ended else None
        return replace(burst, state=state, exit_code=code, output=f"the mock log of {burst.name}")

    def refresh(self, burst: Burst) -> Burst:
        """Return the readiness of a burst on an instance that its nodes cannot join."""
        machines = self.cloud.machines.get(burst.name)
        if burst.isolated:
            if machines is None:
                return replace(burst, state=BurstState.FAILED, error="its machines are gone")
            return self._isolated(burst, machines)
        joins_here = isinstance(self.instance, EmbeddedInstance)
        if machines is None or joins_here or self.instance.now() < machines.joining_at:
            return burst
        return replace(burst, state=BurstState.READY)

    def _make(self, burst: Burst) -> Machines:
        if self.injector.strikes(FailureKind.NO_CAPACITY):
            raise CapacityError(
                f"no {burst.node_type!r} machines now", plugin=self.name, burst=burst.name
            )
        if self.injector.strikes(FailureKind.QUOTA):
            raise QuotaError(
                f"quota of {burst.node_type!r} machines", plugin=self.name, burst=burst.name
            )
        partial = self.injector.strikes(FailureKind.PARTIAL)
        count = burst.nodes // 2 if partial else burst.nodes
        machines = Machines(
            node_type=self._node_type(burst.node_type),
            hostnames=tuple(f"{burst.name}-{number}" for number in range(count)),
            since=self.instance.now(),
            joining_at=self.instance.now() + self._boot_delay(),
            listed=not self.injector.strikes(FailureKind.UNLISTED),
            lease_until=burst.lease_until,
            isolated=burst.isolated,
        )
        self.cloud.make(burst.name, machines)
        self._arm(burst.name, burst.lease_until)
        if partial:
            raise BurstError(
                f"got {count} of {counted(burst.nodes, 'machine')}",
                plugin=self.name,
                burst=burst.name,
                nodes=count,
            )
        self._let_join(burst.name, machines)
        if self.injector.strikes(FailureKind.CRASH):
            raise SimulatedCrash(burst.name)
        return machines

    def _boot_delay(self) -> float:
        if self.injector.strikes(FailureKind.NEVER_JOINS):
            return math.inf
        slow = self.injector.strikes(FailureKind.SLOW)
        return self.params.boot_delay * (SLOWNESS if slow else 1)

    def _let_join(self, name: str, machines: Machines) -> None:
        instance, cloud = self.instance, self.cloud
        if not isinstance(instance, EmbeddedInstance) or math.isinf(machines.joining_at):
            return
        if machines.isolated:  # its state changes then, and again when its job ends
            for when in (machines.joining_at, machines.joining_at + self.params.isolated_run):
                instance.at(when, instance.wake)
            return

        def join() -> None:
            if name in cloud.machines:
                node_type = machines.node_type
                instance.add_nodes(machines.hostnames, node_type, node_type.properties)

        instance.at(machines.joining_at, join)

    def _arm(self, name: str, lease_until: float | None) -> None:
        """Have the cloud end machines with their lease, if the instance can schedule events."""
        instance, cloud = self.instance, self.cloud
        if not isinstance(instance, EmbeddedInstance) or lease_until is None:
            return

        def end() -> None:
            machines = cloud.machines.get(name)
            if machines is not None and machines.lease_until == lease_until:
                instance.remove_nodes(cloud.take(name, lease_until))

        instance.at(lease_until, end)

    def _node_type(self, name: str) -> NodeType:
        for node_type in self.params.node_types:
            if node_type.name == name:
                return node_type
        raise BurstError(f"there is no node type {name!r}", plugin=self.name)
