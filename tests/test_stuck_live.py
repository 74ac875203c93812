"""Jobs that would not start in a live Flux: nothing is brought up for them, and nothing spins."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.elastic_instance import wait_until
from tests.live import TWO_QUEUES, Flux, running_flux
from tests.support import Elsewhere, flux_available

from fluxburst import FluxBurst, Job, NodeType
from fluxburst.config.file import Config
from fluxburst.config.policy import Policy, Watching
from fluxburst.flux.live import LiveInstance
from fluxburst.formats.units import Duration
from fluxburst.ledger import Ledger
from fluxburst.service.loop import Service

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

CONFIG = f"""{TWO_QUEUES}
[queues.burst.policy.limits]
duration = "1m"
"""
POLICY = Policy(watch=Watching(poll=Duration(0.5)))


class InQueue(Elsewhere):
    """A plugin whose nodes are those of the queue burst."""

    def __init__(self) -> None:
        super().__init__("cloud", NodeType("a", cores=2, properties=("burst",)))

    @property
    def queue(self) -> str:
        return "burst"

    def constraint_of(self, job: Job) -> dict[str, Any] | None:
        return {"properties": ["burst"]}


class Anywhere(Elsewhere):
    """A plugin whose nodes are like the lead; none comes up."""

    def __init__(self) -> None:
        super().__init__("cloud", NodeType("a", cores=2, properties=("lead",)))


@pytest.fixture(scope="module")
def flux() -> Iterator[Flux]:
    with running_flux({"two.toml": CONFIG}, size=2) as running:
        running("queue", "start", "--all")  # Flux begins with named queues stopped
        yield running


@contextmanager
def serving(flux: Flux, plugin: Elsewhere, state_dir: Path) -> Iterator[Callable[[], int]]:
    """Run a service, with the lead's node in use; yield what tells how many passes it has run."""
    passes: list[object] = []
    services: list[Service] = []
    ready = threading.Event()

    def serve() -> None:
        import flux as bindings

        handle = bindings.Flux(flux.uri)
        with FluxBurst(handle, config=Config(policy=POLICY), state_dir=state_dir) as client:
            client.hooks.register(plugin, "fluxburst-cloud")
            client.plugins[plugin.name] = plugin
            services.append(Service(client, tell=passes.append))
            ready.set()
            services[0].run()

    user = flux("submit", "--nodes=1", "--exclusive", "--setattr=exec.test.run_duration=1h", "x")
    flux("job", "wait-event", "--timeout=60", user, "alloc")
    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(60.0)
    try:
        yield lambda: len(passes)
    finally:
        services[0].stop()
        thread.join(60.0)
        flux("cancel", "--all", "--quiet")
        flux("queue", "drain")
        assert not thread.is_alive()


def submit(flux: Flux, *arguments: str) -> str:
    return flux("submit", "--setattr=burstable", "--nodes=1", "--exclusive", *arguments, "hostname")


def events(flux: Flux, job: str) -> Counter[str]:
    log = flux("job", "eventlog", "--format=json", job)
    return Counter(json.loads(line)["name"] for line in log.splitlines())


def test_a_move_that_flux_refuses_leaves_nothing_in_the_jobs_eventlog(
    flux: Flux, tmp_path: Path
) -> None:
    plugin = InQueue()
    with serving(flux, plugin, tmp_path) as passes:
        job = submit(flux, "--time-limit=10m")
        wait_until(lambda: passes() >= 8, "some passes were run")
        found = events(flux, job)
    assert (found["memo"], found["jobspec-update"]) == (0, 0)
    assert plugin.created == []
    ledger = Ledger(tmp_path / "ledger.sqlite", "", read_only=True)
    (assignment,) = ledger.assignments()  # it was tried once, and waits
    ledger.close()
    assert "exceeds policy limit of 1m for queue burst" in assignment.reason


def test_nothing_is_brought_up_for_a_stopped_queue_until_it_is_started(
    flux: Flux, tmp_path: Path
) -> None:
    plugin = Anywhere()
    with serving(flux, plugin, tmp_path) as passes:
        flux("queue", "stop", "batch")
        before = passes()
        submit(flux)
        wait_until(lambda: passes() >= before + 4, "some passes were run")
        assert plugin.created == []
        flux("queue", "start", "batch")
        wait_until(lambda: plugin.created, "the started queue was noticed")


def test_housekeeping_is_told_for_as_long_as_it_keeps_nodes_from_being_free() -> None:
    import flux as bindings

    config = '[job-manager.housekeeping]\ncommand = ["sleep", "600"]\n'
    with running_flux({"housekeeping.toml": config}) as running:
        instance = LiveInstance(bindings.Flux(running.uri))
        assert instance.housekeeping() == []
        job = running("submit", "true")
        running("job", "wait-event", "--timeout=60", job, "clean")
        (found,) = instance.housekeeping()
        assert found.job == int(running("job", "id", job))
        assert (set(found.ranks), set(found.running)) == ({0}, {0})
        assert abs(found.since - instance.now()) < 600.0
        (node,) = instance.nodes()
        assert not node.idle
        assert instance.jobs_on([0]) == []
        running("housekeeping", "kill", "--all")
        wait_until(lambda: not instance.housekeeping(), "housekeeping was ended")
        wait_until(lambda: instance.nodes()[0].idle, "the node is free")
