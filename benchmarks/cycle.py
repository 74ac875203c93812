"""One cold burst cycle on a live Flux, beside the raw requests it needs and beside flux-burst.

Starts an instance, makes 5 000 jobs pend in it, half of them burstable, and measures in turn,
each in a process of its own: the raw requests (list the jobs, get the jobspecs in one of two
ways, ask for the nodes, put a memo on each burstable job), fluxburst's ``run_burst()`` with the mock plugin, and
flux-burst 0.0.15's ``run_burst()`` with its job listing mended. Marks are taken off in between.
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
MEASURES = {
    "raw, by lookups": "raw_lookups",
    "raw, by journal": "raw_journal",
    "fluxburst": "ours",
}


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


def clear() -> None:
    """Take the marks off all jobs."""
    from fluxburst.handles.live import LiveInstance

    instance = LiveInstance()
    instance.set_marks({job.id: None for job in instance.pending_jobs() if job.mark})


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


def from_journal(handle: Any, jobids: list[int]) -> dict[int, Any]:
    """Read the jobspecs from the job manager's journal, in one stream."""
    import flux.constants

    streaming = flux.constants.FLUX_RPC_STREAMING
    future = handle.rpc("job-manager.events-journal", {"full": True}, flags=streaming)
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


def measured(what: str) -> dict[str, Any]:
    """Run one of the functions above in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, what], stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout or "{}")
    return result


def compare() -> None:
    """Measure in turn, and print."""
    measured("submit")
    times: dict[str, list[float]] = {name: [] for name in [*MEASURES, "flux-burst 0.0.15"]}
    selected: dict[str, int] = {}
    for _ in range(RUNS):
        for name in times:
            result = measured(MEASURES[name]) if name in MEASURES else run_peer("flux-burst")
            times[name].append(result["seconds"])
            selected[name] = result["selected"]
            measured("clear")
    base = statistics.median(times["fluxburst"])
    print(f"\none cold cycle on {JOBS} pending jobs of a live Flux, median of {RUNS}")
    print(f"{'':20}{'seconds':>9}{'ratio':>8}{'selected':>10}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:20}{median:9.3f}{median / base:8.2f}{selected[name]:10}")


def main() -> None:
    """Start an instance and compare in it; or run one measurement, where one is named."""
    if len(sys.argv) < 2 or sys.argv[1] not in STEPS:
        subprocess.run(["flux", "start", sys.executable, __file__, "compare"], check=True)
        return
    result = STEPS[sys.argv[1]]()
    if result is not None:
        print(json.dumps(result))


STEPS: dict[str, Callable[[], dict[str, Any] | None]] = {
    "submit": submit,
    "clear": clear,
    "raw_lookups": lambda: raw(looked_up),
    "raw_journal": lambda: raw(from_journal),
    "ours": ours,
    "compare": compare,
}


if __name__ == "__main__":
    main()
