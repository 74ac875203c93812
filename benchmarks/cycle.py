"""One cold burst cycle on a live Flux, beside the raw requests it needs and beside flux-burst.

Makes 10 000 jobs pend in an instance, half of them burstable, and measures one of: the raw
requests (the jobs with their jobspecs from the job manager's journal, which goes on telling what
happens, the nodes, a memo on each burstable job), fluxburst's ``run_burst()`` with the mock plugin,
and flux-burst 0.0.15's ``run_burst()`` with its job listing mended. The raw requests are sent
through the class that fluxburst sends them through, with nothing around them; the same through
flux-python, with the jobspecs looked up one by one, is there to compare. Each measurement has an
instance and a process of its own, so that none profits or suffers from what another left behind.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from figures import Figure, print_figures
from instances import in_an_instance, make_pending
from peers import run_peer

JOBS = 10_000
RUNS = 5
MEMO = {"fluxburst": {"plugin": "mock", "burst": "mock-0123456789ab"}}


def memos(burstable: list[int]) -> list[dict[str, Any]]:
    """Return what the requests for memos carry."""
    return [{"id": jobid, "volatile": False, "memo": MEMO} for jobid in burstable]


def raw() -> dict[str, Any]:
    """Time the requests that a cold cycle cannot do without, with nothing around them."""
    import flux

    from fluxburst.flux import job_journal
    from fluxburst.flux.rpc import Channel, Requests

    requests, feed = Requests(Channel(flux.Flux())), Requests(Channel(flux.Flux()))
    start = time.perf_counter()
    burstable = []
    journaled = feed.stream(
        job_journal.TOPIC, job_journal.REQUEST, cancel=f"{job_journal.TOPIC}-cancel"
    )
    for answer in journaled:
        if answer["id"] == job_journal.END_OF_HISTORY:
            break
        if "burstable" in answer["jobspec"]["attributes"]["system"]:
            burstable.append(answer["id"])
    for topic in ("resource.status", "resource.sched-status"):
        requests.ask(topic, {}, nodeid=0)
    list(requests.ask_all("job-manager.memo", memos(burstable)))
    seconds = time.perf_counter() - start
    journaled.close()
    return {"seconds": seconds, "selected": len(burstable)}


def with_flux_python() -> dict[str, Any]:
    """Time the same through flux-python's own objects: list, look up, ask for nodes, mark."""
    import flux
    import flux.constants
    from flux.job.list import job_list

    handle = flux.Flux()
    start = time.perf_counter()
    everyone, pending = flux.constants.FLUX_USERID_UNKNOWN, flux.constants.FLUX_JOB_STATE_PENDING
    jobs = job_list(handle, max_entries=0, userid=everyone, states=pending).get_jobs()
    wanted = [{"id": job["id"], "keys": ["jobspec"], "flags": 2} for job in jobs]
    specs = [json.loads(answer["jobspec"]) for answer in _all(handle, "job-info.lookup", wanted)]
    for answer in [handle.rpc(topic) for topic in ("resource.status", "resource.sched-status")]:
        answer.get()
    burstable = [
        job["id"]
        for job, spec in zip(jobs, specs, strict=True)
        if "burstable" in spec["attributes"]["system"]
    ]
    _all(handle, "job-manager.memo", memos(burstable))
    return {"seconds": time.perf_counter() - start, "selected": len(burstable)}


def _all(handle: Any, topic: str, payloads: list[dict[str, Any]]) -> list[Any]:
    """Send requests, all in flight together, and return their answers."""
    futures = [handle.rpc(topic, payload) for payload in payloads]
    futures.reverse()
    return [futures.pop().get() for _ in payloads]


def ours() -> dict[str, Any]:
    """Time one cold ``run_burst()``."""
    from fluxburst import FluxBurst, NodeType
    from fluxburst_mock.plugin import BurstParameters

    client = FluxBurst()
    node_type = NodeType("node", cores=64, price=1.0)
    plugin = client.load("mock", BurstParameters(node_types=[node_type]))
    assert client.instance.name  # it is connected, as the others are
    start = time.perf_counter()
    client.run_burst()
    return {"seconds": time.perf_counter() - start, "selected": len(plugin.jobs)}


def theirs() -> dict[str, Any]:
    """Time one cold ``run_burst()`` of flux-burst."""
    result: dict[str, Any] = run_peer("flux-burst")
    return result


STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    "raw requests": raw,
    "fluxburst": ours,
    "raw, by flux-python and lookups": with_flux_python,
    "flux-burst 0.0.15": theirs,
}


def main() -> None:
    """Measure one step, where one is named; otherwise all of them in turn, and print."""
    if len(sys.argv) > 1 and sys.argv[1] in STEPS:
        make_pending(JOBS)
        print(json.dumps(STEPS[sys.argv[1]]()))
        return
    results: dict[str, list[dict[str, Any]]] = {step: [] for step in STEPS}
    for number in range(RUNS):
        for step, collected in results.items():
            if step != "flux-burst 0.0.15" or number == 0:  # which takes long, and varies little
                collected.append(in_an_instance(__file__, step))
    medians = {
        step: statistics.median(result["seconds"] for result in collected)
        for step, collected in results.items()
    }
    needed, cycle = medians["raw requests"], medians["fluxburst"]
    figures = [Figure("fluxburst", cycle, "s", 1.5 * needed, needed, "its requests alone")]
    figures += [
        Figure(
            step, seconds, "s", raw=cycle, note=f"fluxburst; {results[step][0]['selected']} jobs"
        )
        for step, seconds in medians.items()
        if step != "fluxburst"
    ]
    ratio = "fluxburst to flux-burst 0.0.15"
    times = cycle / medians["flux-burst 0.0.15"]
    figures.append(Figure(ratio, times, "times", round(1 / 15, 4)))
    print_figures(
        f"one cold cycle on {JOBS} pending jobs of a live Flux, median of {RUNS}", figures
    )


if __name__ == "__main__":
    main()
