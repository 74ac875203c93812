"""Elastic instances whose burst nodes are machines of EKS, for tests, and plugins for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.eks.sites import Site
from tests.kubernetes.sites import write_site

from fluxburst import Burst, FluxBurst
from fluxburst.config.file import Config
from fluxburst_eks import EksBurst

HOSTS = "burst-c5-4xlarge-0-[0-3],burst-c5-4xlarge-1-[0-3],burst-g5-xlarge-0-[0-1]"
SHAPES = """
[[shapes]]
name = "c5.4xlarge"
hosts = "burst-c5-4xlarge-0-[0-3],burst-c5-4xlarge-1-[0-3]"
cores = 8
gpus = 0

[[shapes]]
name = "g5.xlarge"
hosts = "burst-g5-xlarge-0-[0-1]"
cores = 2
gpus = 1
"""


def write_eks_site(directory: Path, **options: Any) -> Path:
    """Write an elastic instance that declares hosts of two machine types."""
    write_site(directory, **options)
    record = directory / "elastic.toml"
    lines = record.read_text().splitlines()
    lines = [f'burst_hosts = "{HOSTS}"' if one.startswith("burst_hosts") else one for one in lines]
    record.write_text("\n".join(lines) + "\n" + SHAPES)
    return directory


def parameters_of(site: Site, directory: Path, **parameters: Any) -> dict[str, Any]:
    """Return the parameters of a plugin that asks this AWS."""
    return {
        **site.parameters,
        "config_dir": str(directory),
        "name": "burst-c5-4xlarge-[0-1],burst-g5-xlarge-0",
        "live_prices": False,
        **parameters,
    }


def client_of(site: Site, directory: Path, **parameters: Any) -> FluxBurst:
    """Return a client of an embedded instance with the plugin loaded."""
    written = parameters_of(site, directory, **parameters)
    client = FluxBurst(mock=True, config=Config(plugins={"eks": written}))
    client.load("eks")
    return client


def plugin_of(site: Site, directory: Path, **parameters: Any) -> EksBurst:
    """Return the plugin of such a client."""
    plugin = client_of(site, directory, **parameters).plugins["eks"]
    assert isinstance(plugin, EksBurst)
    return plugin


def burst(
    name: str = "eks-ab12cd34ef56", nodes: int = 2, node_type: str = "c5.4xlarge", **fields: Any
) -> Burst:
    """Return a burst as the plan has it."""
    return Burst(name, "eks", node_type, nodes, **fields)
