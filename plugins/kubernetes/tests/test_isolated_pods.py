"""Isolated bursts: a MiniCluster that is an instance of its own, and runs one job."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import Server, wait_until
from flux_operator import FluxOperator, flux_operator
from growing_pods import Growing, growing
from support import client_on, flux_available, job
from test_clusters import cluster_of, objects

from fluxburst import Burst, BurstState
from fluxburst.errors import BurstError, ParameterError
from fluxburst.handles.embedded import EmbeddedInstance
from fluxburst.isolation import remote_jobspec
from fluxburst.parameters import build
from fluxburst.recordings import Recording
from fluxburst_kubernetes import BurstParameters, KubernetesBurst

pytestmark = pytest.mark.kubernetes

JOB = 7


def isolated_plugin(server: Server, namespace: str, **parameters: Any) -> KubernetesBurst:
    """Return the plugin, on an embedded instance in which a job waits."""
    written = {
        "kubeconfig": str(server.kubeconfig),
        "namespace": namespace,
        "isolated_burst": True,
        "cpu_limit": 2,
        "poll_interval": 0.02,
        **parameters,
    }
    plugin = KubernetesBurst(build("kubernetes", BurstParameters, config=written))
    client_on(EmbeddedInstance(Recording((job(JOB),), ())), plugin)
    plugin.validate()
    return plugin


def burst(nodes: int = 2) -> Burst:
    return Burst("kubernetes-ab12", "kubernetes", "pod", nodes, (JOB,), isolated=True)


def end(server: Server, namespace: str, pod: str, message: str) -> None:
    """Have a pod end, with a termination message."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    there = server.api("GET", path)
    ended = {"exitCode": 0, "message": message}
    container = {"name": "x", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    status = [{**container, "state": {"terminated": ended}}]
    there["status"] = {"phase": "Succeeded", "containerStatuses": status}
    server.api("PUT", f"{path}/status", there)


def test_what_a_pod_has_must_be_said_where_no_hosts_are_declared(
    server: Server, namespace: str
) -> None:
    with pytest.raises(ParameterError, match="needs node_types or cpu_limit"):
        isolated_plugin(server, namespace, cpu_limit=None)
    (kind,) = isolated_plugin(server, namespace).node_types()
    assert (kind.name, kind.cores, kind.max_nodes) == ("pod", 2, None)


def test_a_job_travels_as_a_secret_that_goes_once_it_runs(
    server: Server, operator: FluxOperator, namespace: str
) -> None:
    plugin = isolated_plugin(server, namespace)
    made = plugin.create(burst())
    assert (made.state, made.hostnames, made.isolated) == (BurstState.STARTING, (), True)
    there = cluster_of(server, namespace, burst().name)
    assert there["spec"]["containers"][0]["command"] == "sh /etc/fluxburst/run"
    assert (there["spec"]["logging"]["quiet"], there["spec"]["interactive"]) == (True, False)
    secret = server.api("GET", f"/api/v1/namespaces/{namespace}/secrets/job-{burst().name}")
    sent = base64.b64decode(secret["data"]["jobspec.json"]).decode()
    assert json.loads(sent) == json.loads(remote_jobspec(plugin.instance, JOB))
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    now = plugin.refresh(made)
    assert now.output == f"kubectl logs --namespace {namespace} {burst().name}-0-abcde"
    assert "secrets/" not in " ".join(objects(server, namespace))
    assert plugin.create(burst()).state is BurstState.READY
    assert "secrets/" not in " ".join(objects(server, namespace))
    (found,) = isolated_plugin(server, namespace).adopt()
    assert (found.isolated, found.jobs, found.nodes) == (True, (JOB,), 2)
    plugin.delete(made)
    assert (objects(server, namespace), plugin.list_bursts()) == ([], [])


@pytest.mark.parametrize("code", [0, 3])
def test_its_exit_code_is_that_of_the_first_pods_message(
    server: Server, operator: FluxOperator, namespace: str, code: int
) -> None:
    plugin = isolated_plugin(server, namespace)
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    end(server, namespace, f"{burst().name}-0-abcde", f"exit-code {code}")
    now = plugin.refresh(made)
    assert (now.exit_code, now.error, now.state) == (code, "", BurstState.READY)
    (found,) = plugin.adopt()
    assert found.exit_code == code
    plugin.delete(made)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("interrupted", "is not run twice"),
        ("refused", "did not take the job"),
        ("", "its pod has ended"),
    ],
)
def test_an_instance_that_broke_before_its_job_ended_has_failed(
    server: Server, operator: FluxOperator, namespace: str, message: str, said: str
) -> None:
    plugin = isolated_plugin(server, namespace)
    made = plugin.create(burst(1))
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pod runs")
    end(server, namespace, f"{burst().name}-0-abcde", message)
    now = plugin.refresh(made)
    assert (now.state, now.exit_code) == (BurstState.FAILED, None)
    assert said in now.error
    plugin.delete(made)
    assert objects(server, namespace) == []


def test_other_pods_may_end_before_the_first_has_told_the_exit_code(
    server: Server, operator: FluxOperator, namespace: str
) -> None:
    plugin = isolated_plugin(server, namespace)
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    end(server, namespace, f"{burst().name}-1-abcde", "")
    assert plugin.refresh(made).state is BurstState.READY
    end(server, namespace, f"{burst().name}-0-abcde", "exit-code 4")
    assert plugin.refresh(made).exit_code == 4
    plugin.delete(made)


def test_pods_that_cannot_come_fail_it(
    server: Server, operator: FluxOperator, namespace: str
) -> None:
    operator.pods_are = "no-image"
    plugin = isolated_plugin(server, namespace)
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).state is BurstState.FAILED, "it has failed")
    assert "ImagePullBackOff" in plugin.refresh(made).error
    plugin.delete(made)
    assert objects(server, namespace) == []


def test_another_instances_minicluster_of_that_name_is_left_alone(
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path
) -> None:
    theirs = isolated_plugin(server, namespace)
    made = theirs.create(burst())
    ours = isolated_plugin(server, namespace)
    ours.__dict__["_tag"] = "another"
    with pytest.raises(BurstError, match="already"):
        ours.create(burst())
    ours.delete(burst())
    assert theirs.list_bursts() == [made.name]
    theirs.delete(made)


# --- on live brokers -----------------------------------------------------------------------------

live = pytest.mark.skipif(not flux_available(), reason="no live Flux")


@pytest.fixture(scope="module")
def pods(server: Server) -> Iterator[FluxOperator]:
    """An operator whose pods are brokers."""
    with flux_operator(server.api, shutil.which("flux") or "") as running:
        yield running


@pytest.fixture(scope="module")
def instance(
    server: Server, pods: FluxOperator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Growing]:
    directory = tmp_path_factory.mktemp("site") / "elastic"
    with growing(directory, server, "isolated", "--clusters=1", "--nodes=1") as made:
        yield made


@pytest.mark.flux
@live
@pytest.mark.parametrize(("nodes", "code"), [(1, 0), (2, 3)])
def test_a_job_runs_in_an_instance_of_its_own_and_ends_here_as_it_ended_there(
    instance: Growing, pods: FluxOperator, server: Server, nodes: int, code: int
) -> None:
    blocker = instance.flux("submit", "-N1", "--exclusive", "sleep", "inf")
    client = instance.client(isolated_burst=True)
    said = f"echo it says $(flux getattr size) nodes; exit {code}"
    job_id = instance.submit(f"-N{nodes}", "--exclusive", "sh", "-c", said)
    client.run_burst()
    wait_until(lambda: _ended(instance, client, job_id), "it has ended here", seconds=90)
    note = instance.flux("job", "eventlog", str(job_id))
    assert f"exit code {code}" in note, (note, pods.logs())
    wait_until(lambda: _gone(client, server), "nothing is left")
    assert f"it says {nodes} nodes" in pods.logs()
    instance.flux("cancel", blocker)


def _ended(instance: Growing, client: Any, job_id: int) -> bool:
    client.run_burst()
    return instance.flux("jobs", "-no", "{state}", str(job_id)) == "INACTIVE"


def _gone(client: Any, server: Server) -> bool:
    client.run_burst()
    return objects(server, "isolated") == []
