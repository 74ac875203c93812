"""A small Flux Operator for tests: the objects of a MiniCluster, and a broker for each pod.

It does what flux-operator's ``controllers/flux`` does, as far as a client can see it, and what the
Job controller and the kubelets would do then. Where Flux is installed, a pod is a real broker,
started as ``pkg/flux/view.go`` and ``pkg/flux/templates/wait.sh`` start it.
"""

from __future__ import annotations

import base64
import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.kubernetes.apiserver import Api, free_port
from tests.kubernetes.kubelet import kubelet

GROUP = "/apis/flux-framework.org/v1alpha2"
POLL_SECONDS = 0.2
END_SECONDS = 30.0


def stamp(seconds: float | None = None) -> str:
    """Return a time as the API has it."""
    at = datetime.fromtimestamp(time.time() if seconds is None else seconds, timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod:
    """One pod: its place on this machine, and its broker if it has one."""

    def __init__(self, root: Path, host: str) -> None:
        self.root, self.host = root, host
        self.broker: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file that its broker writes to."""
        return self.root / "log"

    def place(self, text: str) -> str:
        """Return a text with a pod's paths as those that they are here."""
        for path in ("/mnt/flux", "/etc/fluxburst", "/dev/termination-log"):
            text = text.replace(path, f"{self.root}{path}")
        return text

    def end(self) -> None:
        """End its broker, kindly at first."""
        broker, self.broker = self.broker, None
        if broker is None:
            return
        with contextlib.suppress(ProcessLookupError):
            broker.send_signal(signal.SIGTERM)
        try:
            broker.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            broker.kill()
            broker.wait()
        for process in Path("/proc").glob("[0-9]*"):  # all of a container end with its first
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(process.name)) == broker.pid:
                    os.kill(int(process.name), signal.SIGKILL)


class FluxOperator:
    """Reconciles MiniClusters until it is stopped.

    Attributes:
        pods_are: What becomes of pods: ``running``; ``joined``, with a broker each; or
            ``unschedulable``, ``no-image``, ``crashing``, ``missing`` (all but the first).
        asleep: It does nothing with new MiniClusters.
        says: What the log of a pod without a broker is; None to have its kubelet not answer.
        said_before: What it was before the container was started again.
        node: The node that pods are on.
        nodes_for: Tells how many nodes have certain labels; pods with too few are unschedulable.
    """

    def __init__(self, api: Api, flux: str = "") -> None:
        self.api, self.flux = api, flux
        self.pods_are = "joined" if flux else "running"
        self.asleep = False
        self.says: bytes | None = b"it says so\n"
        self.said_before = b"it said so before\n"
        self.node = ""
        self.nodes_for: Callable[[Mapping[str, str]], float] = lambda labels: math.inf
        self.failures: list[BaseException] = []
        self._pods: dict[tuple[str, str, int], Pod] = {}
        self._ports: dict[str, int] = {}
        self._kept: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._directory = Path(tempfile.mkdtemp(prefix="fb-"))

    def start(self) -> None:
        """Start reconciling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reconciling, and end all brokers."""
        self._stop.set()
        self._thread.join()
        for pod in self._pods.values():
            pod.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def brokers(self) -> dict[str, subprocess.Popen[bytes]]:
        """The brokers that run, by hostname."""
        pods = list(self._pods.values())
        return {pod.host: pod.broker for pod in pods if pod.broker is not None}

    def logs(self) -> str:
        """Return what brokers wrote."""
        now = [path.read_text() for path in self._directory.glob("*/log")]
        return "\n".join([*self._kept, *now])

    def log_of(self, namespace: str, pod: str, before: bool) -> bytes | None:
        """Return what a pod wrote, as its kubelet has it."""
        here = [one for (space, _, _), one in list(self._pods.items()) if space == namespace]
        path = next((one.log for one in here if pod == f"{one.host}-abcde"), None)
        if self.says is None:
            return None
        if path is not None and path.exists():
            return path.read_bytes()
        return self.said_before if before else self.says

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self._reconcile_all()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                self.failures.append(error)

    def _reconcile_all(self) -> None:
        there = {}
        for cluster in self.api.items(f"{GROUP}/miniclusters"):
            metadata = cluster["metadata"]
            there[metadata["namespace"], metadata["name"]] = cluster
        jobs = {}
        for job in self.api.items("/apis/batch/v1/jobs"):
            owner = (job["metadata"].get("ownerReferences") or [{}])[0]
            if owner.get("kind") == "MiniCluster":
                key = job["metadata"]["namespace"], job["metadata"]["name"]
                jobs[key] = job
                if key not in there or there[key]["metadata"]["uid"] != owner["uid"]:
                    self._collect(*key)
        for key, cluster in there.items():
            if key not in jobs and not self.asleep:
                self._make(cluster)
            elif key in jobs:
                self._watch(jobs[key])

    # --- the operator ----------------------------------------------------------------------

    def _make(self, cluster: dict[str, Any]) -> None:
        metadata, spec = cluster["metadata"], cluster["spec"]
        namespace, name = metadata["namespace"], metadata["name"]
        owner = {
            "apiVersion": cluster["apiVersion"],
            "kind": "MiniCluster",
            "name": name,
            "uid": metadata["uid"],
        }
        template = {
            "metadata": {"labels": {**spec["pod"]["labels"], "job-name": name}},
            "spec": {
                "restartPolicy": "OnFailure",
                "containers": [{"name": name, "image": spec["containers"][0]["image"]}],
            },
        }
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "labels": spec.get("jobLabels", {}),
                "ownerReferences": [owner],
            },
            "spec": {
                "parallelism": spec["size"],
                "completions": spec["size"],
                "activeDeadlineSeconds": spec["deadlineSeconds"],
                "template": template,
            },
        }
        own = f"{GROUP}/namespaces/{namespace}/miniclusters/{name}"
        if not self._is_there(own, metadata["uid"]):
            return  # it was deleted since it was listed
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        made = self.api("POST", path, job)
        made["status"] = {"startTime": stamp(), "active": spec["size"]}
        self.api("PUT", f"{path}/{name}/status", made)
        for index in range(1 if self.pods_are == "missing" else spec["size"]):
            self._make_pod(cluster, template, index)
        status = {"jobid": "", "maximumSize": spec["size"], "selector": "", "size": spec["size"]}
        self.api(
            "PATCH",
            f"{own}/status",
            {"status": status},
            content_type="application/merge-patch+json",
        )

    def _is_there(self, path: str, uid: str) -> bool:
        metadata = self.api("GET", path).get("metadata", {})
        return metadata.get("uid") == uid and "deletionTimestamp" not in metadata

    def _make_pod(self, cluster: dict[str, Any], template: dict[str, Any], index: int) -> None:
        namespace, name = cluster["metadata"]["namespace"], cluster["metadata"]["name"]
        host = f"{name}-{index}"
        pods_are = self._pods_are(cluster)
        place = {} if pods_are == "unschedulable" else {"nodeName": self.node}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{host}-abcde", "labels": template["metadata"]["labels"]},
            "spec": {**template["spec"], "hostname": host, **place},
        }
        path = f"/api/v1/namespaces/{namespace}/pods"
        made = self.api("POST", path, pod)
        made["status"] = self._status(name, pods_are)
        self.api("PUT", f"{path}/{made['metadata']['name']}/status", made)
        here = Pod(self._directory / f"{namespace}-{host}", host)
        if pods_are == "joined":
            self._start_broker(cluster, here, index)
        self._pods[namespace, name, index] = here

    def _pods_are(self, cluster: dict[str, Any]) -> str:
        selector = cluster["spec"]["pod"].get("nodeSelector", {})
        enough = self.nodes_for(selector) >= cluster["spec"]["size"]
        return self.pods_are if enough else "unschedulable"

    def _status(self, name: str, pods_are: str) -> dict[str, Any]:
        now = stamp()
        waiting = {
            "no-image": ("ImagePullBackOff", 'Back-off pulling image "nowhere.example/none"'),
            "crashing": ("CrashLoopBackOff", "back-off 10s restarting failed container"),
        }
        if pods_are == "unschedulable":
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient cpu.",
                "lastTransitionTime": now,
            }
            return {"phase": "Pending", "conditions": [condition]}
        container: dict[str, Any] = {"name": name, "image": "x", "imageID": "", "ready": True}
        container |= {"restartCount": 0, "state": {"running": {"startedAt": now}}}
        if pods_are in waiting:
            reason, message = waiting[pods_are]
            container |= {"ready": False}
            container["state"] = {"waiting": {"reason": reason, "message": message}}
            return {"phase": "Pending", "startTime": now, "containerStatuses": [container]}
        return {"phase": "Running", "startTime": now, "containerStatuses": [container]}

    def _start_broker(self, cluster: dict[str, Any], pod: Pod, index: int) -> None:
        """Do what the init container and the start script of a pod do."""
        spec, namespace = cluster["spec"], cluster["metadata"]["namespace"]
        config = pod.root / "mnt/flux/config/etc/flux/config"
        config.mkdir(parents=True)
        file = config / "broker.toml"
        here_document = f"cat <<EOT >> {file}\n{spec['flux']['brokerConfig']}\nEOT\n"
        subprocess.run(["sh", "-c", here_document], check=True)
        file.write_text(self._on_loopback(cluster, pod.place(file.read_text())))
        container = spec["containers"][0]
        for volume in container["volumes"].values():
            self._mount(namespace, volume["secretName"], Path(pod.place(volume["path"])), pod)
        self._certify(cluster, pod)
        pre = container.get("commands", {}).get("pre", "")
        subprocess.run(["sh", "-ec", pod.place(pre)], check=True)
        (pod.root / "dev").mkdir()
        rundir = pod.root / "run"
        rundir.mkdir(mode=0o700)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLUX")}
        command = [self.flux, "broker", f"--config-path={config}", f"-Shostname={pod.host}"]
        command += [f"-Srundir={rundir}", "-Stbon.fanout=256", "-Slog-stderr-mode=local"]
        command += [f"-Slog-stderr-level={spec['flux']['logLevel']}"]
        command += [f"-Stbon.connect_timeout={spec['flux']['connectTimeout']}"]
        command += ["-Sbroker.rc2_none"] if spec["interactive"] and index == 0 else []
        command += pod.place(container.get("command", "")).split() if index == 0 else []
        with pod.log.open("wb") as log:
            pod.broker = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "SHELL": "/bin/sh"},
                start_new_session=True,
            )

    def _on_loopback(self, cluster: dict[str, Any], config: str) -> str:
        """Return a configuration with the addresses that an instance of its own has here."""
        key = cluster["metadata"]["uid"]
        port = self._ports.setdefault(key, free_port())
        found = re.sub(r"tcp://[\w.-]+\.svc\.cluster\.local:\d+", "tcp://eth0:8050", config)
        return found.replace("tcp://eth0:8050", f"tcp://127.0.0.1:{port}")

    def _certify(self, cluster: dict[str, Any], pod: Pod) -> None:
        """Give a pod the certificate that the operator makes up for each MiniCluster."""
        made = self._directory / f"{cluster['metadata']['uid']}.cert"
        if not made.exists():
            subprocess.run([self.flux, "keygen", str(made)], check=True, capture_output=True)
        place = pod.root / "mnt/flux/config/curve"
        place.mkdir()
        shutil.copy(made, place / "curve.cert")

    def _mount(self, namespace: str, secret: str, path: Path, pod: Pod) -> None:
        found = self.api("GET", f"/api/v1/namespaces/{namespace}/secrets/{secret}")
        path.mkdir(parents=True, exist_ok=True)
        for key, value in found["data"].items():
            content = base64.b64decode(value)
            script = key == "run"
            (path / key).write_bytes(pod.place(content.decode()).encode() if script else content)

    # --- the Job controller, the kubelets and the garbage collector ---------------------------

    def _watch(self, job: dict[str, Any]) -> None:
        namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
        if job["status"].get("conditions"):
            return
        for (space, owner, index), pod in list(self._pods.items()):
            ended = pod.broker is not None and pod.broker.poll() is not None
            if (space, owner) == (namespace, name) and ended:
                pod.broker = None
                said = pod.root / "dev/termination-log"
                message = said.read_text() if said.exists() else ""
                self.end_pod(namespace, f"{name}-{index}-abcde", message)
        began = datetime.fromisoformat(job["status"]["startTime"].replace("Z", "+00:00"))
        limit = job["spec"].get("activeDeadlineSeconds", float("inf"))
        if time.time() - began.timestamp() > limit:
            self._end_pods(namespace, name)
            condition = {
                "type": "Failed",
                "status": "True",
                "reason": "DeadlineExceeded",
                "message": "Job was active longer than specified deadline",
                "lastTransitionTime": stamp(),
            }
            self.fail(namespace, name, condition)

    def fail(self, namespace: str, name: str, condition: dict[str, Any]) -> None:
        """Give a Job a condition."""
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        job = self.api("GET", path)
        job["status"]["conditions"] = [condition]
        self.api("PUT", f"{path}/status", job)

    def end_pod(self, namespace: str, name: str, message: str) -> None:
        """Have a pod be one that has ended, with a termination message."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}"
        pod = self.api("GET", path)
        if pod:
            ended = {"exitCode": 0, "reason": "Completed", "message": message}
            of = pod["spec"]["containers"][0]["name"]
            container = {"name": of, "image": "x", "imageID": "", "ready": False}
            container |= {"restartCount": 0, "state": {"terminated": ended}}
            pod["status"] = {"phase": "Succeeded", "containerStatuses": [container]}
            self.api("PUT", f"{path}/status", pod)

    def _end_pods(self, namespace: str, name: str) -> None:
        for key, pod in list(self._pods.items()):
            if key[:2] == (namespace, name):
                pod.end()
                self._kept += [path.read_text() for path in pod.root.glob("log")]
                shutil.rmtree(pod.root, ignore_errors=True)
                del self._pods[key]
        path = f"/api/v1/namespaces/{namespace}/pods"
        for found in self.api.items(path, labelSelector=f"job-name={name}"):
            self.api("DELETE", f"{path}/{found['metadata']['name']}", gracePeriodSeconds="0")

    def _collect(self, namespace: str, name: str) -> None:
        self._end_pods(namespace, name)
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
        self.api("DELETE", path, propagationPolicy="Background")


@contextmanager
def flux_operator(api: Api, flux: str = "") -> Iterator[FluxOperator]:
    """Run an operator; with a ``flux`` command, its pods are brokers."""
    operator = FluxOperator(api, flux)
    with kubelet(api, operator.log_of) as operator.node:
        operator.start()
        try:
            yield operator
        finally:
            operator.stop()
    assert operator.failures == [], operator.failures
