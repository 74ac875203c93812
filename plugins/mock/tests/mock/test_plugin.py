from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.live import running_flux
from tests.plugin_contract import check_contract
from tests.support import flux_available

from fluxburst import BurstState, Duration, FluxBurst, NodeType
from fluxburst.config.file import Config
from fluxburst.config.policy import Timeouts
from fluxburst.errors import BurstError, BurstErrors, CapacityError, ParameterError, QuotaError
from fluxburst.model.job import JobState
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import BUNDLED, ONE_JOB, load
from fluxburst_mock.cloud import cloud_of
from fluxburst_mock.failures import Failure, FailureKind, Injector, SimulatedCrash
from fluxburst_mock.plugin import BurstParameters, MockBurst

NODE = NodeType("node", cores=4, price=3.6, max_nodes=10)
BOOT = 30.0
JOIN = Timeouts().join


def loaded(
    *failures: Failure, seed: int = 0, instance: EmbeddedInstance | None = None
) -> tuple[FluxBurst, MockBurst, EmbeddedInstance]:
    instance = instance or EmbeddedInstance(load(ONE_JOB))
    client = FluxBurst(instance)
    params = BurstParameters([NODE], Duration(BOOT), list(failures), seed)
    plugin = client.load("mock", params)
    assert isinstance(plugin, MockBurst)
    return client, plugin, instance


def fails(kind: FailureKind, times: int = 1, probability: float = 1.0) -> Failure:
    return Failure(kind, times, probability)


def states(client: FluxBurst) -> list[BurstState]:
    return [burst.state for burst in client.refresh_bursts()]


def test_installing_it_is_all_it_takes_to_be_found() -> None:
    assert "mock" in FluxBurst(mock=True).choices.split("|")


def test_a_burst_comes_up_after_the_boot_delay_runs_the_job_and_costs_until_it_is_gone() -> None:
    client, plugin, instance = loaded()
    (jobid,) = client.list_jobs()
    client.run_burst()
    assert states(client) == [BurstState.STARTING]
    instance.advance(BOOT - 1)
    assert states(client) == [BurstState.STARTING]
    instance.advance(1)
    assert states(client) == [BurstState.READY]
    assert instance.job(jobid).state is JobState.RUN
    client.wait_for_jobs([jobid])
    assert instance.job(jobid)["success"]
    instance.advance(3600 - BOOT - 60)
    assert client.run_unburst() == list(plugin.bursts)
    assert states(client) == [BurstState.ENDED]
    assert [node.up for node in client.nodes()] == [True, False, False, False]
    assert plugin.cloud.bill(instance.now()) == pytest.approx(3 * NODE.price)
    instance.advance(3600)
    assert plugin.cloud.bill(instance.now()) == pytest.approx(3 * NODE.price)


def test_its_limit_is_never_passed() -> None:
    client, plugin, instance = loaded(instance=EmbeddedInstance(load(BUNDLED)))
    for _ in range(5):
        client.run_burst()
        machines = plugin.cloud.machines.values()
        assert sum(len(m.hostnames) for m in machines) <= (NODE.max_nodes or 0)
        instance.advance(60)


def test_creating_twice_adopts_what_is_there() -> None:
    client, plugin, _ = loaded()
    client.run_burst()
    (burst,) = plugin.bursts.values()
    machines = dict(plugin.cloud.machines)
    assert plugin.create(burst) == burst
    assert plugin.cloud.machines == machines


def test_deleting_what_is_not_there_is_a_success() -> None:
    client, plugin, _ = loaded()
    client.run_burst()
    (burst,) = plugin.bursts.values()
    plugin.delete(burst)
    plugin.delete(burst)
    assert list(plugin.list_bursts()) == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.NO_CAPACITY, CapacityError),
        (FailureKind.QUOTA, QuotaError),
        (FailureKind.PARTIAL, BurstError),
    ],
)
def test_a_creation_that_fails_is_typed_leaves_nothing_and_works_the_next_time(
    kind: FailureKind, error: type[BurstError]
) -> None:
    client, plugin, instance = loaded(fails(kind))
    with pytest.raises(BurstErrors) as caught:
        client.run_burst()
    (inner,) = caught.value.errors
    assert type(inner) is error
    assert plugin.cloud.machines == {}
    client.run_burst()
    instance.advance(BOOT)
    assert states(client) == [BurstState.FAILED, BurstState.READY]


def test_failures_strike_as_often_as_they_are_told_to() -> None:
    client, _, _ = loaded(fails(FailureKind.NO_CAPACITY, times=2))
    for _ in range(2):
        with pytest.raises(BurstErrors):
            client.run_burst()
    client.run_burst()


def test_failures_without_a_number_of_times_always_strike() -> None:
    client, _, _ = loaded(fails(FailureKind.NO_CAPACITY, times=0))
    for _ in range(5):  # by hand, as a plan would spare a node type that fails so often
        with pytest.raises(BurstErrors):
            client.request_burst("mock", 1, None)


def test_failures_with_a_probability_are_repeatable_by_their_seed() -> None:
    def outcomes(seed: int) -> list[bool]:
        client, _, _ = loaded(fails(FailureKind.NO_CAPACITY, 0, 0.5), seed=seed)
        results = []
        for _ in range(20):
            try:
                client.request_burst("mock", 1, None)
                results.append(True)
                client.run_unburst()
            except BurstErrors:
                results.append(False)
        return results

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert {True, False} == set(outcomes(1))


def test_slow_nodes_come_later() -> None:
    client, _, instance = loaded(fails(FailureKind.SLOW))
    client.run_burst()
    instance.advance(BOOT)
    assert states(client) == [BurstState.STARTING]
    instance.advance(9 * BOOT)
    assert states(client) == [BurstState.READY]


def test_nodes_that_never_join_cost_until_they_are_given_up() -> None:
    client, plugin, instance = loaded(fails(FailureKind.NEVER_JOINS))
    client.run_burst()
    instance.advance(JOIN)
    assert states(client) == [BurstState.STARTING]
    instance.advance(1)
    assert states(client) == [BurstState.FAILED]
    assert plugin.cloud.machines == {}
    cost = 3 * NODE.price * (JOIN + 1) / 3600
    instance.advance(3600)
    assert plugin.cloud.bill(instance.now()) == pytest.approx(cost)


def test_nodes_that_never_join_can_be_taken_down() -> None:
    client, plugin, instance = loaded(fails(FailureKind.NEVER_JOINS))
    client.run_burst()
    instance.advance(BOOT)
    assert states(client) == [BurstState.STARTING]
    assert client.run_unburst() == list(plugin.bursts)
    assert plugin.cloud.machines == {}


def test_a_deletion_that_fails_leaves_the_machines_and_works_the_next_time() -> None:
    client, plugin, _ = loaded(fails(FailureKind.DELETE_FAILS))
    client.run_burst()
    with pytest.raises(BurstErrors, match="did not delete it"):
        client.run_unburst()
    assert len(plugin.cloud.machines) == 1
    assert client.run_unburst() == list(plugin.bursts)
    assert plugin.cloud.machines == {}


def test_a_burst_that_the_cloud_does_not_list_is_still_known_here() -> None:
    client, plugin, _ = loaded(fails(FailureKind.UNLISTED))
    client.run_burst()
    assert list(plugin.list_bursts()) == []
    assert client.run_unburst() == list(plugin.bursts)
    assert plugin.cloud.machines == {}


def test_a_cloud_that_does_not_answer_is_an_error() -> None:
    _, plugin, _ = loaded(fails(FailureKind.LIST_FAILS))
    with pytest.raises(BurstError, match="does not answer"):
        plugin.list_bursts()


def test_after_a_crash_another_client_finds_the_machines_and_the_mark() -> None:
    client, plugin, instance = loaded(fails(FailureKind.CRASH))
    with pytest.raises(SimulatedCrash):
        client.run_burst()
    again, found, _ = loaded(instance=instance)
    assert again.run_burst() == []
    assert list(found.list_bursts()) == list(plugin.cloud.machines)
    assert again.run_unburst() == list(plugin.bursts)
    assert found.cloud.machines == {}


def test_what_fails_comes_from_config_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fluxburst.config.file import load as load_config

    file = tmp_path / "fluxburst.toml"
    file.write_text(
        """
        [plugins.mock]
        boot_delay = "2m"
        seed = 7

        [[plugins.mock.node_types]]
        name = "tiny"
        cores = 1
        memory = "1GiB"
        price = 0.1

        [[plugins.mock.failures]]
        kind = "quota"
        times = 3
        """
    )
    monkeypatch.setenv("FLUXBURST_MOCK_SEED", "8")
    plugin = FluxBurst(mock=True, config=load_config(file)).load("mock")
    assert plugin.params == BurstParameters(
        node_types=[NodeType("tiny", cores=1, memory=2**30, price=0.1)],  # type: ignore[arg-type]
        boot_delay=Duration(120.0),
        failures=[Failure(FailureKind.QUOTA, 3)],
        seed=8,
    )


def test_its_nodes_have_the_properties_of_their_type(tmp_path: Path) -> None:
    from fluxburst.config.file import load as load_config

    file = tmp_path / "fluxburst.toml"
    file.write_text(
        """
        [plugins.mock]
        node_types = [{ name = "racing", cores = 4, properties = ["fast", "ssd"] }]
        """
    )
    instance = EmbeddedInstance(load(ONE_JOB))
    (waiting,) = instance.pending_jobs()
    waiting.attributes["constraints"] = {"properties": ["fast"]}
    client = FluxBurst(instance, config=load_config(file))
    client.load("mock")
    (burst,) = client.plan().bursts
    assert burst.node_type == "racing"
    client.run_burst()
    instance.advance(BOOT)
    new = [node for node in client.nodes() if node.hostname.startswith("mock-")]
    assert len(new) == burst.nodes
    assert {node.properties for node in new} == {frozenset({"fast", "ssd"})}


def test_a_failure_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXBURST_MOCK_FAILURES", '[{"kind": "lightning"}]')
    with pytest.raises(ParameterError, match="expected one of no_capacity, quota, partial"):
        FluxBurst(mock=True).load("mock")


def test_loading_leaves_the_callers_parameters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXBURST_MOCK_SEED", "8")
    given = BurstParameters()
    before = dataclasses.asdict(given)
    FluxBurst(mock=True).load("mock", given)
    assert dataclasses.asdict(given) == before


def test_without_a_client_it_says_so() -> None:
    with pytest.raises(BurstError, match="no client has loaded it"):
        MockBurst(BurstParameters()).list_bursts()


# --- isolated bursts ---------------------------------------------------------------------------


def isolated(instance: object, **parameters: object) -> FluxBurst:
    given = {"isolated_burst": True, "node_types": [dataclasses.asdict(NODE)], **parameters}
    client = FluxBurst(instance, config=Config(plugins={"mock": given}))
    client.load("mock")
    return client


def test_a_job_runs_in_an_isolated_burst_and_ends_here_when_it_ended_there() -> None:
    instance = EmbeddedInstance(load(ONE_JOB))
    client = isolated(instance, boot_delay=BOOT, isolated_run=60, isolated_exit_code=3)
    (jobid,) = client.list_jobs()
    client.run_burst()
    instance.advance(BOOT + 59)
    client.run_burst()
    assert instance.job(jobid).not_startable == "is held (urgency 0)"
    instance.advance(1)
    client.run_burst()
    ended = instance.job(jobid)
    assert (ended.state, ended["exception_type"]) == (JobState.INACTIVE, "burst")
    assert "with exit code 3; its output: the mock log of mock-" in ended["exception_note"]
    (line,) = client.ledger.usages()
    assert (line.job, line.nodes, line.ended) == (jobid, 4, instance.now())


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_on_a_live_instance_it_is_held_and_ends_with_a_note_that_says_how() -> None:
    import flux

    with running_flux() as running:
        client = isolated(flux.Flux(running.uri), boot_delay=0.5, isolated_run=2)
        running("submit", "-N1", "--exclusive", "sleep", "inf")
        job = running("submit", "--setattr=burstable", "-N1", "hostname")
        client.run_burst()
        assert running("jobs", "-no", "{status_abbrev}{urgency}", job) == "S0"
        (burst,) = client.plugins["mock"].bursts
        while client.ledger.live():
            client.instance.wait(0.2)
            client.run_burst()
        note = (
            f"it completed in burst {burst}, with exit code 0; its output: the mock log of {burst}"
        )
        assert running("jobs", "-no", "{exception.type}: {exception.note}", job) == f"burst: {note}"
        client.close()


def test_the_contract_of_all_plugins() -> None:
    instance = EmbeddedInstance()
    cloud = cloud_of(instance, "mock")
    injector = Injector([], seed=0)

    def make_plugin() -> MockBurst:
        plugin = FluxBurst(instance).load("mock", BurstParameters([NODE], Duration(BOOT)))
        assert isinstance(plugin, MockBurst)
        plugin.injector = injector
        return plugin

    def out_of_capacity(yes: bool) -> None:
        injector.clear()
        if yes:
            injector.add(Failure(FailureKind.NO_CAPACITY, times=0))

    check_contract(
        make_plugin, "node", lambda: list(cloud.machines), out_of_capacity, instance.now()
    )
