"""One cold burst cycle on a live Flux, beside the raw requests it needs and beside flux-burst.

Makes 5 000 jobs pend in an instance, half of them burstable, and measures one of: the raw
requests with flux-python (list the jobs, get the jobspecs in one of two ways, ask for the nodes,
put a memo on each burstable job), fluxburst's ``run_burst()`` with the mock plugin, and
flux-burst 0.0.15's ``run_burst()`` with its job listing mended. Each measurement has an instance
and a process of its own, so that none profits or suffers from what another left behind.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from peers import run_peer

JOBS = 5_000
RUNS = 3


def submit() -> None:
    """Make jobs pend: every other one burstable."""
    import flux
    import flux.job

    handle = flux.Flux()
    subprocess.run(["flux", "queue", "stop", "--all", "--quiet"], check=True)
    specs = []
    for attributes in ({"burstable": 1}, {}):
        spec = flux.job.JobspecV1.from_command(["hostname"], num_nodes=1)
        for key, value in attributes.items():
            spec.setattr(f"system.{key}", value)
        spec.cwd = "/"
        specs.append(spec.dumps())
    futures = [flux.job.submit_async(handle, specs[number % 2]) for number in range(JOBS)]
    for future in futures:
        flux.job.submit_get_id(future)


def raw(jobspecs: Callable[[Any, list[int]], dict[int, Any]]) -> dict[str, Any]:
    """Time the requests that a cold cycle cannot do without, with nothing around them."""
    import flux
    import flux.constants
    import flux.job
    from flux.job.list import job_list

    handle = flux.Flux()
    start = time.perf_counter()
    everyone, pending = flux.constants.FLUX_USERID_UNKNOWN, flux.constants.FLUX_JOB_STATE_PENDING
    jobs = job_list(handle, max_entries=0, userid=everyone, states=pending).get_jobs()
    specs = jobspecs(handle, [job["id"] for job in jobs])
    for answer in [handle.rpc(topic) for topic in ("resource.status", "resource.sched-status")]:
        answer.get()
    burstable = [i for i, spec in specs.items() if "burstable" in spec["attributes"]["system"]]
    memo = {"fluxburst": {"plugin": "mock", "burst": "mock-0123456789ab"}}
    futures = [
        handle.rpc("job-manager.memo", {"id": jobid, "volatile": False, "memo": memo})
        for jobid in burstable
    ]
    futures.reverse()
    while futures:
        futures.pop().get()
    return {"seconds": time.perf_counter() - start, "selected": len(burstable)}


def looked_up(handle: Any, jobids: list[int]) -> dict[int, Any]:
    """Look the jobspecs up, all requests in flight together."""
    futures = [
        handle.rpc("job-info.lookup", {"id": jobid, "keys": ["jobspec"], "flags": 2})
        for jobid in jobids
    ]
    futures.reverse()
    return {jobid: json.loads(futures.pop().get()["jobspec"]) for jobid in jobids}


def from_journal(_: Any, jobids: list[int]) -> dict[int, Any]:
    """Read the jobspecs from the job manager's journal, in one stream of its own connection."""
    import flux
    import flux.constants

    streaming = flux.constants.FLUX_RPC_STREAMING
    future = flux.Flux().rpc("job-manager.events-journal", {"full": True}, flags=streaming)
    specs = {}
    while (answer := future.get())["id"] != -1:
        specs[answer["id"]] = answer["jobspec"]
        future.reset()
    return {jobid: specs[jobid] for jobid in jobids}


def ours() -> dict[str, Any]:
    """Time one cold ``run_burst()``."""
    from fluxburst import FluxBurst, NodeType
    from fluxburst_mock.plugin import BurstParameters

    client = FluxBurst()
    node_type = NodeType("node", cores=64, price=1.0)
    plugin = client.load("mock", BurstParameters(node_types=[node_type]))
    start = time.perf_counter()
    client.run_burst()
    return {"seconds": time.perf_counter() - start, "selected": len(plugin.jobs)}


def theirs() -> dict[str, Any]:
    """Time one cold ``run_burst()`` of flux-burst."""
    result: dict[str, Any] = run_peer("flux-burst")
    return result


STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    "raw, by lookups": lambda: raw(looked_up),
    "raw, by journal": lambda: raw(from_journal),
    "fluxburst": ours,
    "flux-burst 0.0.15": theirs,
}


def in_an_instance(step: str) -> dict[str, Any]:
    """Run one step in an instance of its own."""
    command = ["flux", "start", sys.executable, __file__, step]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measure one step, where one is named; otherwise all of them in turn, and print."""
    if len(sys.argv) > 1 and sys.argv[1] in STEPS:
        submit()
        print(json.dumps(STEPS[sys.argv[1]]()))
        return
    results: dict[str, list[dict[str, Any]]] = {step: [] for step in STEPS}
    for _ in range(RUNS):
        for step, collected in results.items():
            collected.append(in_an_instance(step))
    medians = {
        step: statistics.median(result["seconds"] for result in collected)
        for step, collected in results.items()
    }
    print(f"\none cold cycle on {JOBS} pending jobs of a live Flux, median of {RUNS}")
    print(f"{'':20}{'seconds':>9}{'ratio':>8}{'selected':>10}")
    for step, seconds in medians.items():
        ratio = seconds / medians["fluxburst"]
        print(f"{step:20}{seconds:9.3f}{ratio:8.2f}{results[step][0]['selected']:10}")


if __name__ == "__main__":
    main()
