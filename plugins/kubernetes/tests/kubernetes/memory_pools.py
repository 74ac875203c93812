"""Node pools that only exist in memory, in front of a real API server, and a plugin for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.kubernetes.apiserver import Server
from tests.kubernetes.sites import write_site
from tests.support import client_with

from fluxburst.config.parameters import build
from fluxburst.errors import BurstError
from fluxburst.provider.machine_types import MachineTypes, load
from fluxburst_kubernetes.managed import ManagedKubernetes
from fluxburst_kubernetes.managed_parameters import ManagedParameters
from fluxburst_kubernetes.node_pools import Access, Pool, PoolRequest, PoolState, Record

TABLE = """
dated = 2026-01-01
region = "here"
source = "nowhere"

[[machine_types]]
name = "small.2"
vcpus = 4
threads_per_core = 2
memory = "8GiB"
price = 0.5
spot_price = 0.1

[[machine_types]]
name = "large.8"
vcpus = 16
threads_per_core = 2
memory = "64GiB"
price = 2.0
spot_price = 0.5
"""


@dataclass
class MemoryProvider:
    """What a provider has: at most one cluster, and its node pools.

    Attributes:
        server: The API server that its cluster has.
        exists: Whether the cluster is there.
        made_with: What was written on it.
        pools: Its node pools, by name.
        refuses: What creating a pool raises.
        certificate: What it says the API server's authority is, if not the truth.
        done: What was asked of it, in order.
        on_create: Called when a pool was made.
        on_delete: Called when a pool is deleted.
    """

    server: Server
    exists: bool = True
    may_make: bool = False
    made_with: Record | None = None
    pools: dict[str, Pool] = field(default_factory=dict)
    refuses: BurstError | None = None
    certificate: bytes | None = None
    done: list[str] = field(default_factory=list)
    on_create: Callable[[], object] = lambda: None
    on_delete: Callable[[], object] = lambda: None

    @property
    def cluster(self) -> MemoryCluster:
        return MemoryCluster(self)

    def selector(self, pool: str) -> Mapping[str, str]:
        return {"example.org/pool": pool}

    def get(self, name: str) -> Pool | None:
        return self.pools.get(name)

    def ours(self, tag: str) -> Sequence[Pool]:
        return [p for p in self.pools.values() if p.record is not None and p.record.tag == tag]

    def create(self, request: PoolRequest) -> None:
        if self.refuses is not None:
            raise self.refuses
        if request.name not in self.pools:
            self.done.append(f"make {request.name} of {request.nodes}")
            kind = f"{request.machine_type}{' spot' if request.spot else ''}"
            made = Pool(request.name, PoolState.RUNNING, request.nodes, request.record, kind)
            self.pools[request.name] = made
            self.on_create()

    def delete(self, name: str) -> None:
        if self.pools.pop(name, None):
            self.done.append(f"delete {name}")
            self.on_delete()

    def grow(self, name: str, nodes: int, record: Record) -> None:
        self.done.append(f"grow {name} to {nodes}")
        self.pools[name] = replace(self.pools[name], nodes=nodes, record=record)

    def shrink(self, name: str, nodes: int) -> None:
        self.done.append(f"shrink {name} to {nodes}")
        self.pools[name] = replace(self.pools[name], nodes=nodes, record=None)


@dataclass
class MemoryCluster:
    """The cluster of such a provider."""

    provider: MemoryProvider

    def access(self) -> Access | None:
        if not self.provider.exists:
            return None
        ca = self.provider.certificate or self.provider.server.certificate.read_bytes()
        return Access(
            "there", self.provider.server.url, ca, self.provider.server.tokens["admin"], "admin"
        )

    def ensure(self, record: Record) -> None:
        if self.provider.exists:
            return
        if not self.provider.may_make:
            raise BurstError("there is no cluster, and none is to be made")
        self.provider.done.append("make cluster")
        self.provider.exists, self.provider.made_with = True, record

    def made_for(self) -> Record | None:
        return self.provider.made_with if self.provider.exists else None

    def delete(self) -> None:
        self.provider.done.append("delete cluster")
        self.provider.exists, self.provider.made_with = False, None
        self.provider.pools.clear()


class MemoryBurst(ManagedKubernetes):
    """A burst plugin for such a provider."""

    _param_dataclass = ManagedParameters
    name = "memory"

    def __init__(self, dataclass: ManagedParameters, provider: MemoryProvider) -> None:
        super().__init__(dataclass)
        self._provider = provider
        provider.may_make = dataclass.create_cluster

    @functools.cached_property
    def pools(self) -> MemoryProvider:
        return self._provider

    @functools.cached_property
    def table(self) -> MachineTypes:
        return load(TABLE, "the test")


SHAPES = """
[[shapes]]
name = "small.2"
hosts = "burst-small-2-0-[0-3],burst-small-2-1-[0-3]"
cores = 2
gpus = 0

[[shapes]]
name = "large.8"
hosts = "burst-large-8-0-[0-1]"
cores = 8
gpus = 0
"""
HOSTS = "burst-small-2-0-[0-3],burst-small-2-1-[0-3],burst-large-8-0-[0-1]"


def write_managed_site(directory: Path, **options: Any) -> Path:
    """Write an elastic instance that declares hosts of two machine types."""
    write_site(directory, **options)
    record = directory / "elastic.toml"
    lines = record.read_text().splitlines()
    lines = [f'burst_hosts = "{HOSTS}"' if one.startswith("burst_hosts") else one for one in lines]
    record.write_text("\n".join(lines) + "\n" + SHAPES)
    return directory


def memory_plugin(provider: MemoryProvider, directory: Path, **parameters: Any) -> MemoryBurst:
    """Return the plugin, loaded by a client of an embedded instance."""
    written = {
        "config_dir": str(directory),
        "name": "burst-small-2-[0-1],burst-large-8-0",
        "poll_interval": 0.02,
        "retry_timeout": 1.0,
        **parameters,
    }

    given = build("memory", ManagedParameters, config=written)
    plugin = MemoryBurst(given, provider)
    client_with(plugin)
    plugin.validate()
    return plugin
