"""What all plugins do: the scenario, and the contract, on node groups of EKS."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tests.eks.instances import plugin_of, write_eks_site
from tests.eks.sites import ENVIRONMENT, Site, eks_site
from tests.elastic_instance import ElasticInstance, elastic_instance
from tests.kubernetes.apiserver import Server, wait_until
from tests.plugin_contract import check_contract
from tests.scenario import LiveWorld, check_table, run, tidied
from tests.support import flux_available

pytestmark = pytest.mark.kubernetes


class EksWorld(LiveWorld):
    """Node groups that moto keeps, and brokers of a test operator on them."""

    isolates = True

    def __init__(self, instance: ElasticInstance, site: Site) -> None:
        self._site = site
        super().__init__(instance)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "full":
            self._site.full = {("", "")} if value else set()
        if name == "joins":
            self._site.operator.pods_are = "joined" if value else "running"
        super().__setattr__(name, value)

    def provider_left(self) -> list[str]:
        return self._site.left()


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_scenario_of_all_plugins(eks_server: Server, tmp_path: Path) -> None:
    options = ["--address=127.0.0.1", "--lead-cores=2", "--namespace=eks-scenario"]
    options += ["--clusters=2", "--machine-type=c5.4xlarge=6"]
    with eks_site(eks_server, shutil.which("flux") or "") as site:
        parameters = {
            **site.parameters,
            "poll_interval": "100ms",
            "provider_poll_interval": "100ms",
        }
        parameters |= {"retry_timeout": "1s", "live_prices": False, "zone_pause": "1ms"}
        parameters["output_dir"] = str(tmp_path / "output")
        with (
            elastic_instance(
                tmp_path / "elastic", "eks", options, parameters, ENVIRONMENT
            ) as instance,
            tidied(EksWorld(instance, site)) as world,
        ):
            check_table("eks", run(world))


def test_the_contract_of_all_plugins(site: Site, tmp_path: Path, space: str) -> None:
    directory = write_eks_site(tmp_path / "elastic")

    def out_of_capacity(full: bool) -> None:
        site.full = {("", "")} if full else set()

    def left() -> list[str]:
        """Return what is left, once the operator has made all that it makes."""
        if any(one.startswith("miniclusters/") for one in site.left()):
            wait_until(lambda: sum("pods/" in one for one in site.left()) == 2, "pods are there")
        return site.left()

    check_contract(
        lambda: plugin_of(site, directory, namespace=space, zone_pause=0.001),
        "c5.4xlarge",
        left,
        out_of_capacity,
        time.time(),
    )
