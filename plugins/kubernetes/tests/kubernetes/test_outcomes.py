"""What has become of a job in an isolated burst, from what its pods show."""

from __future__ import annotations

import importlib.resources
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fluxburst import Burst, BurstState
from fluxburst_kubernetes.outcomes import KILLED, Outcome, as_it_is, outcome
from fluxburst_kubernetes.states import Found, Patience

NAME = "kubernetes-ab12"
THEN = "2024-05-06T07:08:09Z"
PATIENCE = Patience(pending=60.0, join=60.0)
RUNS: dict[str, Any] = {"running": {"startedAt": THEN}}
WAITS: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
OOM: dict[str, Any] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def ended(message: str = "", code: int = 0, reason: str = "Completed") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def own(state: Any, before: Any = None, name: str = NAME) -> dict[str, Any]:
    """Return the status of a container."""
    return {"name": name, "state": state, "lastState": before or {}}


def pod(
    index: int, phase: str, *containers: Any, made: str = THEN, **status: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{NAME}-{index}-{made[-3:-1]}", "creationTimestamp": made},
        "spec": {"hostname": f"{NAME}-{index}"},
        "status": {"phase": phase, "containerStatuses": list(containers), **status},
    }


def seen(*pods: dict[str, Any], size: int = 1, ran: bool = False) -> Outcome:
    minicluster = {
        "metadata": {"name": NAME, "creationTimestamp": THEN},
        "spec": {"size": size},
    }
    # Its Job is there, and began just before now.
    return outcome(Found(minicluster, {"status": {}}, pods), 1714979290.0, PATIENCE, ran=ran)


@pytest.mark.parametrize(
    ("phase", "state", "before"),
    [
        ("Running", RUNS, OOM),
        ("Running", {"waiting": {"reason": "CrashLoopBackOff"}}, OOM),
        ("Succeeded", ended("interrupted"), OOM),
        ("Failed", OOM, None),
        ("Running", OOM, None),
    ],
)
def test_a_job_that_was_killed_for_memory_has_ended_so(phase: str, state: Any, before: Any) -> None:
    now = seen(pod(0, phase, own(state, before)))
    assert (now.exit_code, now.problem, now.restarted) == (KILLED, "", before is not None)
    assert "killed for lack of memory (OOMKilled)" in now.reason


def test_memory_of_any_pod_is_the_jobs() -> None:
    now = seen(pod(0, "Running", own(RUNS)), pod(1, "Running", own(RUNS, OOM)), size=2)
    assert (now.exit_code, now.restarted) == (KILLED, False)
    assert now.pod.startswith(f"{NAME}-0-")


@pytest.mark.parametrize("said", ["exit-code 3", "exit-code 3\n"])
def test_a_job_that_tells_how_it_ended_is_believed_also_of_memory(said: str) -> None:
    now = seen(pod(0, "Succeeded", own(ended(said, 0, "OOMKilled"))))
    assert (now.exit_code, now.reason, now.container) == (3, "", NAME)


def test_a_sidecar_that_still_runs_does_not_keep_a_job_from_having_ended() -> None:
    sidecar = own(RUNS, name="istio-proxy")
    assert seen(pod(0, "Running", own(ended("exit-code 0")), sidecar)).exit_code == 0


@pytest.mark.parametrize("said", ["exit-code 0", "sidecar: connection refused", "interrupted"])
@pytest.mark.parametrize("when", ["before", "now"])
def test_a_sidecar_says_nothing_of_the_job(said: str, when: str) -> None:
    state, before = (RUNS, ended(said, 1)) if when == "before" else (ended(said, 1), None)
    sidecar = own(state, before, name="a-sidecar")
    killed = own(RUNS, OOM, name="b-sidecar")
    now = seen(pod(0, "Running", sidecar, killed, own(RUNS)), ran=True)
    assert (now.exit_code, now.problem, now.runs) == (None, "", True)


@pytest.mark.parametrize(
    "said", ["flux-broker: error: no module", "exit-code", "exit-code -1", "3"]
)
def test_a_message_that_is_not_of_our_form_is_no_exit_code(said: str) -> None:
    failed = seen(pod(0, "Failed", own(ended(said, 1, "Error"))))
    assert failed.exit_code is None
    assert failed.problem
    restarting = seen(pod(0, "Running", own(RUNS, ended(said, 1, "Error"))))
    assert (restarting.exit_code, restarting.problem, restarting.runs) == (None, "", True)


def test_a_container_that_ended_without_a_word_is_not_waited_for_though_a_sidecar_runs() -> None:
    now = seen(pod(0, "Running", own(ended()), own(RUNS, name="istio-proxy")))
    assert "its pod has ended: Completed, exit code 0" in now.problem


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("Evicted", "The node was low on resource: ephemeral-storage."),
        ("Preempting", "Preempted in order to admit critical pod"),
        ("NodeLost", "Node n which was running pod is unresponsive"),
        ("Terminated", "Pod was terminated in response to imminent node shutdown."),
    ],
)
def test_what_is_not_the_jobs_fault_is_a_loss_of_a_job_that_may_have_begun(
    reason: str, message: str
) -> None:
    gone = pod(0, "Failed", reason=reason, message=message)
    now = seen(gone)
    assert (now.exit_code, now.began) == (None, True)
    assert now.problem == f"{NAME}-0: its pod has ended: {reason}: {message}"
    burst = Burst(NAME, "kubernetes", "pod", 2, (7,), BurstState.STARTING, isolated=True)
    told = as_it_is(burst, now, "")
    assert (told.state, told.joined, told.error) == (BurstState.FAILED, 2, now.problem)


def test_an_interruption_says_how_the_container_ended_before_and_promises_nothing() -> None:
    before = ended("the node was rebooted", 255, "Unknown")
    now = seen(pod(0, "Succeeded", own(ended("interrupted"), before)))
    assert now.problem == (
        "its container ended while its job ran, and was restarted: Unknown, exit code 255: "
        "the node was rebooted"
    )
    assert now.began


@pytest.mark.parametrize(
    ("size", "pods"),
    [
        (1, [pod(0, "Pending", own(WAITS))]),
        (2, [pod(0, "Running", own(RUNS)), pod(1, "Pending", own(WAITS))]),
        (2, [pod(0, "Running", own(RUNS))]),
        (1, [pod(0, "Failed", message="Pod was rejected: OutOfcpu", reason="OutOfcpu")]),
        (1, [pod(0, "Succeeded", own(ended("refused")))]),
    ],
)
def test_a_job_has_not_begun_before_all_its_pods_have_started(size: int, pods: list[Any]) -> None:
    assert not seen(*pods, size=size).began


def test_a_first_pod_that_is_made_anew_runs_no_job() -> None:
    later = pod(0, "Pending", own(WAITS), made="2024-05-06T07:08:10Z")
    evicted = pod(0, "Failed", reason="Evicted")
    for pods in ((later, evicted), (evicted, later)):
        assert "Evicted" in seen(*pods, ran=True).problem
    assert "its replacement does not run the job" in seen(later, ran=True).problem
    assert seen(later).problem == ""


# --- what the first pod says ---------------------------------------------------------------------

EVENT = '1796035976.155170 exception type="exec" severity=0 userid=0 note="node failure on x-1"'
SCRIPT = importlib.resources.files("fluxburst_kubernetes").joinpath("run_isolated.sh")


@pytest.mark.parametrize(
    ("code", "event", "said"),
    [(0, EVENT, "exit-code 0"), (143, EVENT, "node-lost"), (3, "1.5 start", "exit-code 3")],
)
def test_a_job_that_failed_with_its_node_has_not_ended(
    tmp_path: Path, code: int, event: str, said: str
) -> None:
    flux = tmp_path / "flux"
    flux.write_text(
        f"#!/bin/sh\ncase $2 in submit) echo ƒA;; attach) exit {code};; "
        f"eventlog) echo '{event}';; esac\n"
    )
    flux.chmod(0o755)
    script = SCRIPT.read_text()
    for path in ("/etc/fluxburst", "/mnt/flux/config", "/dev/termination-log"):
        script = script.replace(path, f"{tmp_path}/said" if "log" in path else str(tmp_path))
    path = f"{tmp_path}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", script], env={"PATH": path}, check=True, timeout=60)
    assert (tmp_path / "said").read_text() == said
    now = seen(pod(0, "Succeeded", own(ended(said))))
    assert (now.exit_code is None) == (said == "node-lost")
    assert ("a node of its instance was lost" in now.problem) == (said == "node-lost")
