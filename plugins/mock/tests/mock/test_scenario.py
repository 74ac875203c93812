from __future__ import annotations

import pytest
from tests.scenario import LEASE_SECONDS, check_table, run

from fluxburst import Burst, FluxBurst, NodeType
from fluxburst.cli.progress import follow
from fluxburst.config.file import Config
from fluxburst.config.policy import Policy
from fluxburst.simulation.embedded import CANCELED, COMPLETED, FAILED, EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_mock.cloud import cloud_of
from fluxburst_mock.failures import Failure, FailureKind, SimulatedCrash

RESULTS = {COMPLETED: "COMPLETED", FAILED: "FAILED", CANCELED: "CANCELED"}


class MockWorld:
    """An embedded instance, and the cloud in memory that serves it."""

    plugin = "mock"
    isolates = True

    def __init__(self) -> None:
        self.instance = EmbeddedInstance(Recording((), ()))
        self.cloud = cloud_of(self.instance, "mock")
        self.full, self.joins = False, True
        self._client: FluxBurst | None = None

    def client(self, policy: Policy | None = None, *, isolated: bool = False) -> FluxBurst:
        failures = [Failure(FailureKind.NO_CAPACITY, times=0)] if self.full else []
        failures += [] if self.joins else [Failure(FailureKind.NEVER_JOINS, times=0)]
        return self._client_that(failures, policy, isolated=isolated)

    def _client_that(
        self, failures: list[Failure], policy: Policy | None = None, *, isolated: bool = False
    ) -> FluxBurst:
        if self._client is not None:
            self._client.close()
        table = {
            "node_types": [NodeType("node", cores=4, price=1.0)],
            "failures": failures,
            "boot_delay": 1.0,
            "isolated_burst": isolated,
            "isolated_exit_code": 3,
        }
        config = Config(plugins={"mock": table}, policy=policy or Policy())
        self._client = FluxBurst(self.instance, config=config)
        self._client.load("mock")
        return self._client

    def submit(self, nodes: int, *command: str) -> int:
        from tests.support import spec

        forever = {"exec": {"test": {"run_duration": "1d"}}} if command[:1] == ("sleep",) else {}
        return self.instance.submit(spec(nodes, 1, exclusive=True, burstable=1, **forever))

    def follow(self, client: FluxBurst) -> list[Burst]:
        return follow(client, 90, quiet=True)

    def result(self, jobid: int) -> str:
        job = self.instance.job(jobid)
        return f"{RESULTS[job['result']]} {job.get('exception_note', '')}".strip()

    def kill_while_it_brings_up(self) -> None:
        client = self._client_that([Failure(FailureKind.CRASH)])
        with pytest.raises(SimulatedCrash):
            client.run_burst()

    def pass_lease(self) -> None:
        self.instance.advance(LEASE_SECONDS + 1)

    def running(self) -> list[str]:
        return list(self.cloud.machines)

    def left(self) -> list[str]:
        return [*self.cloud.machines, *(n.hostname for n in self.instance.nodes() if n.drained)]


def test_the_scenario_of_all_plugins() -> None:
    check_table("mock", run(MockWorld()))
