from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tests.elastic_instance import ElasticInstance, elastic_instance
from tests.gke.sites import Site, gke_site
from tests.gke.test_plugin import gke_plugin, write_gke_site
from tests.kubernetes.apiserver import Server, wait_until
from tests.plugin_contract import check_contract
from tests.scenario import LiveWorld, check_table, run, tidied
from tests.support import flux_available

pytestmark = pytest.mark.kubernetes


class GkeWorld(LiveWorld):
    """Node pools of a project that is played, and brokers of a test operator on them."""

    isolates = True

    def __init__(self, instance: ElasticInstance, site: Site) -> None:
        self._site = site
        super().__init__(instance)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "full":
            self._site.none_in = {"*"} if value else set()
        if name == "joins":
            self._site.operator.pods_are = "joined" if value else "running"
        super().__setattr__(name, value)

    def provider_left(self) -> list[str]:
        return self._site.left()


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_scenario_of_all_plugins(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--address=127.0.0.1", "--lead-cores=2", "--namespace=gke-scenario"]
    options += ["--clusters=2", "--machine-type=c2-standard-8=6"]
    with gke_site(server, tmp_path / "site", shutil.which("flux") or "") as site:
        for name, value in site.environment.items():
            monkeypatch.setenv(name, value)
        parameters = {
            **site.parameters,
            "poll_interval": "100ms",
            "provider_poll_interval": "100ms",
        }
        parameters |= {"retry_timeout": "1s", "output_dir": str(tmp_path / "output")}
        with (
            elastic_instance(
                tmp_path / "elastic", "gke", options, parameters, site.environment
            ) as instance,
            tidied(GkeWorld(instance, site)) as world,
        ):
            check_table("gke", run(world))


def test_the_contract_of_all_plugins(gke: Site, tmp_path: Path, namespace: str) -> None:
    directory = write_gke_site(tmp_path / "elastic")

    def out_of_capacity(full: bool) -> None:
        gke.none_in = {"*"} if full else set()

    def left() -> list[str]:
        """Return what is left, once the operator has made all that it makes."""
        if any(one.startswith("miniclusters/") for one in gke.left()):
            wait_until(lambda: sum("pods/" in one for one in gke.left()) == 2, "pods are there")
        return gke.left()

    check_contract(
        lambda: gke_plugin(gke, directory, namespace=namespace),
        "c2-standard-8",
        left,
        out_of_capacity,
        time.time(),
    )
