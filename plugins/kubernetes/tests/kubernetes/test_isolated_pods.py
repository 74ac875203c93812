"""Isolated bursts: a MiniCluster that is an instance of its own, and runs one job."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes.apiserver import RESTRICTED, Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator, flux_operator
from tests.kubernetes.growing_pods import Growing, growing
from tests.kubernetes.servers import Reply, before_it, kubeconfig, status
from tests.kubernetes.test_clusters import RBAC, cluster_of, objects
from tests.support import client_on, flux_available, job

from fluxburst import Burst, BurstState
from fluxburst.config.parameters import build
from fluxburst.config.policy import Breaking, Policy
from fluxburst.errors import BurstError, ParameterError, UnreachableError
from fluxburst.model.burst import LIVE_STATES
from fluxburst.model.job import JobState
from fluxburst.provider.isolation import OUTPUT_LIMIT, UNREAD, remote_jobspec
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_kubernetes import BurstParameters, KubernetesBurst

pytestmark = pytest.mark.kubernetes

JOB = 7
PATIENT = Breaking(failures=1000)


def isolated_plugin(server: Server, namespace: str, **parameters: Any) -> KubernetesBurst:
    """Return the plugin, on an embedded instance in which a job waits."""
    written = {
        "kubeconfig": str(server.kubeconfig),
        "namespace": namespace,
        "isolated_burst": True,
        "run_as": "owner",
        "cpu_limit": 2,
        "poll_interval": 0.05,
        **parameters,
    }
    plugin = KubernetesBurst(build("kubernetes", BurstParameters, config=written))
    client_on(EmbeddedInstance(Recording((job(JOB),), ())), plugin)
    plugin.validate()
    return plugin


def burst(nodes: int = 2) -> Burst:
    return Burst("kubernetes-ab12", "kubernetes", "pod", nodes, (JOB,), isolated=True)


def restart(server: Server, namespace: str, pod: str, message: str, then: dict[str, Any]) -> None:
    """Have a pod's container be in a state after it ended once, with a termination message."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    there = server.api("GET", path)
    before = {"terminated": {"exitCode": 1, "message": message}}
    (status,) = there["status"]["containerStatuses"]
    status |= {"restartCount": 1, "state": then, "lastState": before}
    there["status"] = {"phase": "Running", "containerStatuses": [status]}
    server.api("PUT", f"{path}/status", there)


def test_what_a_pod_has_must_be_said_where_no_hosts_are_declared(
    server: Server, namespace: str
) -> None:
    with pytest.raises(ParameterError, match="needs node_types or cpu_limit"):
        isolated_plugin(server, namespace, cpu_limit=None)
    (kind,) = isolated_plugin(server, namespace).node_types()
    assert (kind.name, kind.cores, kind.max_nodes) == ("pod", 2, None)


def test_doctor_asks_for_nothing_that_an_isolated_burst_does_not_need(
    server: Server, operator: FluxOperator, namespace: str
) -> None:
    findings = list(isolated_plugin(server, namespace).diagnose())
    assert [one.what for one in findings if one.level != "ok"] == []


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
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path, code: int
) -> None:
    plugin = isolated_plugin(server, namespace, output_dir=str(tmp_path))
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    operator.end_pod(namespace, f"{burst().name}-0-abcde", f"exit-code {code}")
    now = plugin.refresh(made)
    assert (now.exit_code, now.error, now.state) == (code, "", BurstState.READY)
    (found,) = plugin.adopt()
    assert found.exit_code == code
    plugin.delete(made)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("interrupted", "ended while its job ran"),
        ("refused", "rejected the job"),
        ("", "its pod has ended"),
    ],
)
def test_an_instance_that_broke_before_its_job_ended_has_failed(
    server: Server, operator: FluxOperator, namespace: str, message: str, said: str
) -> None:
    plugin = isolated_plugin(server, namespace)
    made = plugin.create(burst(1))
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pod runs")
    operator.end_pod(namespace, f"{burst().name}-0-abcde", message)
    now = plugin.refresh(made)
    assert (now.state, now.exit_code) == (BurstState.FAILED, None)
    assert said in now.error
    plugin.delete(made)
    assert objects(server, namespace) == []


def test_other_pods_may_end_before_the_first_has_told_the_exit_code(
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path
) -> None:
    plugin = isolated_plugin(server, namespace, output_dir=str(tmp_path))
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pods run")
    operator.end_pod(namespace, f"{burst().name}-1-abcde", "")
    assert plugin.refresh(made).state is BurstState.READY
    operator.end_pod(namespace, f"{burst().name}-0-abcde", "exit-code 4")
    assert plugin.refresh(made).exit_code == 4
    plugin.delete(made)


@pytest.mark.parametrize(
    "then",
    [
        {"running": {"startedAt": "2024-05-06T07:08:09Z"}},
        {"terminated": {"exitCode": 0, "message": "interrupted"}},
    ],
)
def test_a_job_that_ended_has_ended_also_where_its_container_was_started_again(
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path, then: dict[str, Any]
) -> None:
    plugin = isolated_plugin(server, namespace, output_dir=str(tmp_path))
    made = running(plugin)
    restart(server, namespace, f"{made.name}-0-abcde", "exit-code 3", then)
    now = plugin.refresh(made)
    assert (now.exit_code, now.error) == (3, "")
    assert Path(now.output).read_bytes() == operator.said_before
    plugin.delete(made)


# --- what it wrote -------------------------------------------------------------------------------


def running(plugin: KubernetesBurst) -> Burst:
    """Return a burst of one node whose pod runs."""
    made = plugin.create(burst(1))
    wait_until(lambda: plugin.refresh(made).state is BurstState.READY, "its pod runs")
    return made


def test_output_is_kept_in_a_file_once_the_job_has_ended_and_stays_there(
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path
) -> None:
    directory = tmp_path / "its" / "output"
    plugin = isolated_plugin(server, namespace, output_dir=str(directory))
    made = running(plugin)
    assert not directory.exists()
    operator.end_pod(namespace, f"{made.name}-0-abcde", "exit-code 0")
    kept = Path(plugin.refresh(made).output)
    assert kept == directory / f"{made.name}.log"
    operator.says = None
    (found,) = plugin.adopt()
    assert (plugin.refresh(made).output, found.output) == (str(kept), str(kept))
    plugin.delete(made)
    assert kept.read_bytes() == b"it says so\n"
    assert (stat.S_IMODE(kept.stat().st_mode), list(directory.iterdir())) == (0o600, [kept])
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_output_is_cut_where_it_is_too_long_and_says_so(
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path
) -> None:
    operator.says = b"fifteen and one\n" * (OUTPUT_LIMIT // 16 + 1000)
    plugin = isolated_plugin(server, namespace, output_dir=str(tmp_path))
    made = running(plugin)
    operator.end_pod(namespace, f"{made.name}-0-abcde", "exit-code 0")
    kept = Path(plugin.refresh(made).output).read_bytes()
    assert kept[:OUTPUT_LIMIT] == operator.says[:OUTPUT_LIMIT]
    assert kept[OUTPUT_LIMIT:].strip().startswith(b"[fluxburst: the output is longer than 16 MiB")
    assert len(kept) < OUTPUT_LIMIT + 100
    plugin.delete(made)


@pytest.mark.parametrize("broken", ["kubelet", "directory"])
def test_output_that_cannot_be_kept_is_fetched_again_as_long_as_the_pod_is_there(
    server: Server,
    operator: FluxOperator,
    namespace: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    directory, says = tmp_path / "output", operator.says
    if broken == "kubelet":
        operator.says = None
    else:
        directory.write_text("no directory")
    plugin = isolated_plugin(server, namespace, output_dir=str(directory))
    made = running(plugin)
    operator.end_pod(namespace, f"{made.name}-0-abcde", "exit-code 3")
    now = plugin.refresh(made)
    assert (now.exit_code, now.state) == (3, BurstState.READY)
    assert now.output.startswith(UNREAD)
    assert f"burst {made.name}: cannot keep the output of its job yet: " in caplog.text
    operator.says = says
    directory.unlink(missing_ok=True)
    assert Path(plugin.refresh(now).output).read_bytes() == b"it says so\n"
    plugin.delete(made)
    assert objects(server, namespace) == []


def test_it_takes_no_more_than_the_role_of_rbac_yaml(
    server: Server, operator: FluxOperator, tmp_path: Path
) -> None:
    space = "flux-operator"
    server.namespace(space)
    server.apply(RBAC)
    limited = {"kubeconfig": str(server.kubeconfig_of(RESTRICTED))}
    plugin = isolated_plugin(server, space, output_dir=str(tmp_path), **limited)
    made = running(plugin)
    operator.end_pod(space, f"{made.name}-0-abcde", "exit-code 0")
    assert Path(plugin.refresh(made).output).read_bytes() == b"it says so\n"
    plugin.delete(made)
    assert objects(server, space) == []


def test_doctor_warns_where_logs_may_not_be_read_and_output_is_lost_then(
    server: Server, operator: FluxOperator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = "flux-operator"
    server.namespace(space)
    server.apply(RBAC)
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{space}/roles/fluxburst"
    role = server.api("GET", path)
    without = [rule for rule in role["rules"] if rule["resources"] != ["pods/log"]]
    server.api("PUT", path, {**role, "rules": without})
    limited = {"kubeconfig": str(server.kubeconfig_of(RESTRICTED))}
    plugin = isolated_plugin(server, space, output_dir=str(tmp_path), **limited)
    told = f"missing permission in the namespace {space}: get pods/log"

    def warned() -> bool:
        return any(
            one.level == "warning" and one.what.startswith(told) for one in plugin.diagnose()
        )

    try:
        wait_until(warned, "doctor warns")  # the server's authorizer has a cache
        made = running(plugin)
        operator.end_pod(space, f"{made.name}-0-abcde", "exit-code 0")
        now = plugin.refresh(made)
        assert now.exit_code == 0
        assert now.output.startswith(UNREAD)
        assert "cannot get resource" in caplog.text
        plugin.delete(made)
    finally:
        latest = server.api("GET", path)
        server.api("PUT", path, {**latest, "rules": role["rules"]})
        wait_until(lambda: not warned(), "the role is whole again")


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
    ours.__dict__["tag"] = "another"
    with pytest.raises(BurstError, match="already"):
        ours.create(burst())
    ours.delete(burst())
    assert theirs.list_bursts() == [made.name]
    theirs.delete(made)


# --- what is not its end, and what is ------------------------------------------------------------

PAGE: Reply = (404, b"<html>404 Not Found nginx</html>", {"Content-Type": "text/html"})
MINICLUSTERS = "/apis/flux-framework.org/v1alpha2/namespaces/{}/miniclusters/{}"


def set_status(server: Server, namespace: str, pod: str, status: dict[str, Any]) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    there = server.api("GET", path)
    server.api("PUT", f"{path}/status", {**there, "status": status})


@pytest.mark.parametrize(
    "page", [PAGE, status(404, "NotFound", "the server could not find the requested resource")]
)
def test_a_404_of_what_stands_before_the_server_is_not_the_end_of_a_job_that_runs(
    server: Server, operator: FluxOperator, namespace: str, tmp_path: Path, page: Reply
) -> None:
    away: list[bool] = []

    def hook(method: str, path: str) -> Reply | None:
        return page if away and "/miniclusters" in path else None

    with before_it(server, hook) as url:
        access = kubeconfig(tmp_path / "kubeconfig", url, server.tokens["admin"])
        asked = {"kubeconfig": str(access), "retry_timeout": 0.2}
        plugin = isolated_plugin(server, namespace, **asked)
        made = plugin.refresh(running(plugin))
        away.append(True)
        for ask in (
            lambda: plugin.refresh(made),
            plugin.adopt,
            plugin.list_bursts,
            lambda: plugin.delete(made),
        ):
            with pytest.raises(UnreachableError, match="is not a Kubernetes API server"):
                ask()
        away.clear()
        assert plugin.refresh(made).state is BurstState.READY
        server.api("DELETE", MINICLUSTERS.format(namespace, made.name))
        gone = plugin.refresh(made)
        assert (gone.state, gone.error) == (BurstState.FAILED, "its MiniCluster no longer exists")
        plugin.delete(made)


def test_a_minicluster_that_has_lost_its_labels_is_not_gone(
    server: Server, operator: FluxOperator, namespace: str
) -> None:
    plugin = isolated_plugin(server, namespace)
    made = running(plugin)
    path, merge = MINICLUSTERS.format(namespace, made.name), "application/merge-patch+json"
    labels = cluster_of(server, namespace, made.name)["metadata"]["labels"]
    server.api("PATCH", path, {"metadata": {"labels": None}}, content_type=merge)
    with pytest.raises(BurstError, match="but its labels no longer match"):
        plugin.refresh(made)
    server.api("PATCH", path, {"metadata": {"labels": labels}}, content_type=merge)
    assert plugin.refresh(made).state is BurstState.READY
    plugin.delete(made)


@pytest.mark.parametrize(
    ("pod", "starts", "note"),
    [
        ({"phase": "Running", "before": "OOMKilled"}, 1, "with exit code 137: the container of "),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, 3, ""),
    ],
)
def test_a_job_is_started_once_where_its_end_is_its_own_and_else_three_times(
    server: Server,
    operator: FluxOperator,
    namespace: str,
    tmp_path: Path,
    pod: dict[str, str],
    starts: int,
    note: str,
) -> None:
    plugin = isolated_plugin(server, namespace, output_dir=str(tmp_path))
    instance = EmbeddedInstance(Recording((job(JOB),), ()))
    client = client_on(instance, plugin, policy=Policy(breakers=PATIENT))
    started: list[str] = []
    for _ in range(30):
        instance.advance(time.time() - instance.now())  # leases are by the clock on the wall
        client.run_burst()
        for burst in [one for one in plugin.bursts.values() if one.state in LIVE_STATES]:
            name = f"{burst.name}-0-abcde"
            if burst.name not in started and f"pods/{name}" in objects(server, namespace):
                started.append(burst.name)
                killed(server, namespace, name, dict(pod))
        time.sleep(0.1)
    assert len(started) == starts
    now = instance.job(JOB)
    assert now.state is (JobState.INACTIVE if note else JobState.SCHED)
    assert note in now.get("exception_note", "")
    assert now.urgency == (0 if note else 16)
    assert objects(server, namespace) == []


def killed(server: Server, namespace: str, name: str, status: dict[str, Any]) -> None:
    """Have the pod of a burst be lost, or its container have been killed and started again."""
    reason = status.pop("before", "")
    if reason:
        before = {"terminated": {"exitCode": 137, "reason": reason}}
        state = {"running": {"startedAt": "2024-05-06T07:08:09Z"}}
        container: dict[str, Any] = {
            "name": name.removesuffix("-0-abcde"),
            "image": "x",
            "imageID": "",
        }
        container |= {"ready": True, "restartCount": 1, "state": state, "lastState": before}
        status["containerStatuses"] = [container]
    set_status(server, namespace, name, status)


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
    instance: Growing,
    pods: FluxOperator,
    server: Server,
    tmp_path: Path,
    nodes: int,
    code: int,
) -> None:
    blocker = instance.flux("submit", "-N1", "--exclusive", "sleep", "inf")
    client = instance.client(isolated_burst=True, output_dir=str(tmp_path))
    said = f"echo it says $(flux getattr size) nodes; exit {code}"
    job_id = instance.submit(f"-N{nodes}", "--exclusive", "sh", "-c", said)
    client.run_burst()
    wait_until(lambda: _ended(instance, client, job_id), "it has ended here", seconds=90)
    note = instance.flux("job", "eventlog", str(job_id))
    assert f"exit code {code}" in note, (note, pods.logs())
    wait_until(lambda: _gone(client, server), "nothing is left")
    (kept,) = tmp_path.iterdir()
    assert f"its output: {kept}" in note
    assert f"it says {nodes} nodes\n" in kept.read_text()
    instance.flux("cancel", blocker)


def _ended(instance: Growing, client: Any, job_id: int) -> bool:
    client.run_burst()
    return instance.flux("jobs", "-no", "{state}", str(job_id)) == "INACTIVE"


def _gone(client: Any, server: Server) -> bool:
    client.run_burst()
    return objects(server, "isolated") == []
