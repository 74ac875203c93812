from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tests.elastic_instance import ElasticInstance, elastic_instance
from tests.kubernetes.apiserver import Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator, flux_operator
from tests.kubernetes.sites import plugin_of, write_site
from tests.kubernetes.test_clusters import objects
from tests.plugin_contract import check_contract
from tests.scenario import LiveWorld, check_table, run, tidied
from tests.support import flux_available

pytestmark = pytest.mark.kubernetes

SPACE = "kubernetes-scenario"
POD_CORES = 2


class KubernetesWorld(LiveWorld):
    """Pods of a real API server, whose test operator starts a broker for each."""

    isolates = True
    _killing = False

    def __init__(self, instance: ElasticInstance, server: Server, operator: FluxOperator) -> None:
        self._server, self._operator = server, operator
        super().__init__(instance)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "full" and value is not self.full:
            take_slots(self._server, SPACE, ["burst-0", "burst-1"], value)
        if name == "joins":
            self._operator.pods_are = "joined" if value else "running"
        super().__setattr__(name, value)

    def provider_left(self) -> list[str]:
        if self.full:
            return []
        brokers = [f"broker {host}" for host in self._operator.brokers]
        return [*self._objects(), *brokers]

    def running(self) -> list[str]:
        return list(self._operator.brokers)

    def _objects(self) -> list[str]:
        found = objects(self._server, SPACE)
        return [one for one in found if not (self._killing and one.startswith("secrets/"))]

    def kill_while_it_brings_up(self) -> None:
        """Kill it once its MiniCluster is there: the instance's secret alone is no burst."""
        self._killing = True
        super().kill_while_it_brings_up()
        self._killing = False


def take_slots(server: Server, namespace: str, slots: list[str], full: bool) -> None:
    """Have all slots be taken by Jobs of somebody else, or free."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    for slot in slots:
        container = {"name": "x", "image": "x"}
        pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        theirs = {"metadata": {"name": slot}, "spec": {"template": pod}}
        if full:
            server.api("POST", path, theirs)
        else:
            server.api("DELETE", f"{path}/{slot}", propagationPolicy="Background")


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_scenario_of_all_plugins(server: Server, tmp_path: Path) -> None:
    server.namespace(SPACE)
    options = ["--address=127.0.0.1", f"--cores={POD_CORES}", "--lead-cores=2"]
    options += [f"--namespace={SPACE}", "--clusters=2", "--nodes=6"]
    parameters = {"kubeconfig": str(server.kubeconfig), "poll_interval": "100ms"}
    parameters["output_dir"] = str(tmp_path / "output")
    with (
        flux_operator(server.api, shutil.which("flux") or "") as operator,
        elastic_instance(tmp_path / "elastic", "kubernetes", options, parameters) as instance,
        tidied(KubernetesWorld(instance, server, operator)) as world,
    ):
        check_table("kubernetes", run(world))


def test_the_contract_of_all_plugins(
    server: Server, operator: FluxOperator, tmp_path: Path, namespace: str
) -> None:
    server.namespace(namespace)
    site = write_site(tmp_path / "elastic")

    def left() -> list[str]:
        """Return what is left, once the operator has made all that it makes."""
        if any(one.startswith("miniclusters/") for one in objects(server, namespace)):
            made = 1 + 1 + 2 + 1
            wait_until(lambda: len(objects(server, namespace)) == made, "pods are there")
        return objects(server, namespace)

    check_contract(
        lambda: plugin_of(server, site, namespace=namespace),
        "pod",
        left,
        lambda full: take_slots(server, namespace, ["burst-0", "burst-1"], full),
        time.time(),
    )
