"""A burst plugin whose machines are entries in JSON files, one file for each burst."""
# ruff: noqa: D101, D102

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from fluxburst import Burst, BurstPlugin, BurstState, NodeType, PluginType, hookimpl


@dataclass
class Parameters:
    """What users can set."""

    directory: Path = field(metadata={"help": "where the files are kept"})
    max_nodes: int = field(default=64, metadata={"help": "how many machines at most"})


class ExampleBurst(BurstPlugin):
    name, _param_dataclass = "example", Parameters

    def node_types(self) -> list[NodeType]:
        return [NodeType("machine", cores=16, price=0.50, max_nodes=self.params.max_nodes)]

    def create(self, burst: Burst) -> Burst:
        hosts = tuple(f"{burst.name}-{number}" for number in range(burst.nodes))
        (self.params.directory / f"{burst.name}.json").write_text(json.dumps(hosts))
        return replace(burst, state=BurstState.STARTING, hostnames=hosts)

    def delete(self, burst: Burst) -> None:
        (self.params.directory / f"{burst.name}.json").unlink(missing_ok=True)

    def list_bursts(self) -> list[str]:
        return [p.stem for p in self.params.directory.glob("*.json") if self.owns(p.stem)]


@hookimpl
def fluxburst_register_plugins() -> list[PluginType[Parameters]]:
    """Offer the burst plugin ``example``."""
    return [PluginType("example", Parameters, ExampleBurst)]
