"""Isolated bursts: machines that make an instance of their own, which runs a job once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.compute_engine.fake_compute import Machine, Page, Refusal, Site, stamp
from tests.compute_engine.sites import SMALL, burst
from tests.compute_engine.test_wire import PAGES
from tests.elastic_instance import wait_until
from tests.live import Flux, running_flux
from tests.support import flux_available, job, spec

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.config.file import Config
from fluxburst.config.policy import Breaking, Policy
from fluxburst.errors import BurstError, UnreachableError
from fluxburst.provider.isolation import UNREAD
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording
from fluxburst_compute_engine import ComputeEngineBurst, isolated

MOCKED: dict[str, Any] = {
    "isolated_burst": True,
    "run_as": "owner",
    "machine_type": SMALL,
}


def mocked(site: Site, output: Path, **parameters: Any) -> tuple[FluxBurst, ComputeEngineBurst]:
    """Return a client of an embedded instance, whose one job is to burst."""
    table = {**site.parameters, **MOCKED, "output_dir": str(output), **parameters}
    client = FluxBurst(mock=True, config=Config(plugins={"compute_engine": table}))
    client.load("compute_engine")
    plugin = client.plugins["compute_engine"]
    assert isinstance(plugin, ComputeEngineBurst)
    return client, plugin


@pytest.mark.parametrize("name", ["compute-engine-ab12cd34ef56", "Odd.Näme_", "x" * 90, "1"])
def test_names_of_instances_are_made_of_any_burst_and_are_its_own(name: str) -> None:
    names = isolated.hosts(name, 1001)
    assert len(set(names)) == 1001
    assert all(len(one) <= 63 and one[0].isalpha() and one == one.lower() for one in names)
    assert isolated.hosts(f"{name}x", 1) != isolated.hosts(name, 1)


def test_the_machine_types_of_the_table_are_on_offer_without_any_declared_host(
    site: Site, tmp_path: Path
) -> None:
    _, plugin = mocked(site, tmp_path)
    assert [kind.name for kind in plugin.node_types()] == [SMALL]
    table = {**site.parameters, "isolated_burst": True}
    client = FluxBurst(mock=True, config=Config(plugins={"compute_engine": table}))
    client.load("compute_engine")
    assert len(client.plugins["compute_engine"].node_types()) > 25


def test_output_is_what_the_job_wrote_and_nothing_else() -> None:
    console = "boot\r\n[ 3.1] sh[7]: fluxburst| one\r\nnoise\r\nfluxburst| \r\nfluxburst| | two\r\n"
    assert isolated.output_of(console) == "one\n\n| two\n"


@pytest.mark.skipif(not flux_available(), reason="no Flux to make a certificate")
def test_an_isolated_burst_is_followed_by_what_its_lead_tells(site: Site, tmp_path: Path) -> None:
    client, plugin = mocked(site, tmp_path / "output")
    asked = burst(jobs=(next(iter(client.plan().jobs)),), isolated=True)
    made = plugin.create(asked)
    assert plugin.list_bursts() == [asked.name]
    assert plugin.adopt() == [made]
    assert (made.state, made.hostnames, made.isolated) == (BurstState.STARTING, (), True)
    lead = next(machine for (_, host), machine in site.machines.items() if host.endswith("-0"))
    assert '"tasks"' in lead.metadata["fluxburst-job"]
    lead.guest_attributes["state"] = "running"
    assert plugin.refresh(made).state is BurstState.READY
    for machine in site.machines.values():
        assert "fluxburst-curve-cert" not in machine.metadata
    lead.guest_attributes["exit-code"] = "3"
    ended = plugin.refresh(made)
    assert ended.exit_code == 3
    assert Path(ended.output).is_file()
    again = plugin.create(ended)
    assert (again.name, again.exit_code) == (asked.name, 3)
    assert site.requests.count("instances.bulkInsert") == 1
    plugin.delete(ended)
    assert site.left() == []


@pytest.mark.skipif(not flux_available(), reason="no Flux to make a certificate")
def test_one_whose_machine_is_lost_has_failed(site: Site, tmp_path: Path) -> None:
    client, plugin = mocked(site, tmp_path)
    made = plugin.create(burst(jobs=(next(iter(client.plan().jobs)),), isolated=True))
    site.lose(next(name for _, name in site.machines))
    assert plugin.refresh(made).state is BurstState.FAILED
    plugin.delete(made)
    assert site.left() == []


# --- what is not its end, and what is ------------------------------------------------------------

with_flux = pytest.mark.skipif(not flux_available(), reason="no Flux to make a certificate")
RUNNING, GUEST, LIST = "running", "instances.getGuestAttributes", "instances.aggregatedList"


def ran(site: Site, output: Path, **parameters: Any) -> tuple[ComputeEngineBurst, Burst, Machine]:
    """Return a plugin, with a burst of one machine whose job runs, and has for an hour."""
    client, plugin = mocked(site, output, retry_timeout=0, **parameters)
    made = plugin.create(burst(nodes=1, jobs=(next(iter(client.plan().jobs)),), isolated=True))
    site.settle()
    (lead,) = site.machines.values()
    lead.instance.status = "RUNNING"
    lead.instance.creation_timestamp = lead.instance.last_start_timestamp = stamp(
        time.time() - 3600
    )
    lead.guest_attributes["state"] = RUNNING
    return plugin, plugin.refresh(made), lead


@with_flux
@pytest.mark.parametrize("call", [GUEST, LIST])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_proxy_is_not_the_end_of_a_job_that_runs(
    site: Site, tmp_path: Path, call: str, page: object
) -> None:
    plugin, made, _ = ran(site, tmp_path)
    site.faults[call] = [Page(404, page)] * 3
    with pytest.raises(UnreachableError):
        plugin.refresh(made)
    site.faults.clear()
    assert plugin.refresh(made).state is BurstState.READY


@with_flux
def test_a_lead_that_is_not_heard_for_a_moment_runs_its_job_on(site: Site, tmp_path: Path) -> None:
    plugin, made, lead = ran(site, tmp_path)
    lead.guest_attributes.clear()
    now = plugin.refresh(made)
    assert (now.state, now.error) == (BurstState.READY, "")


@with_flux
def test_a_machine_that_lost_its_labels_is_not_gone(site: Site, tmp_path: Path) -> None:
    plugin, made, lead = ran(site, tmp_path)
    labels = dict(lead.instance.labels)
    lead.instance.labels.clear()
    with pytest.raises(BurstError, match="but its labels no longer match"):
        plugin.refresh(made)
    site.faults["instances.get"] = [
        Refusal(404, "notFound", "The resource 'zones/z' was not found")
    ]
    with pytest.raises(BurstError, match="zones/z"):
        plugin.refresh(made)
    lead.instance.labels.update(labels)
    assert plugin.refresh(made).state is BurstState.READY
    site.lose(lead.instance.name)
    assert plugin.refresh(made).state is BurstState.FAILED


@with_flux
def test_a_job_that_the_kernel_killed_for_memory_has_ended_so(site: Site, tmp_path: Path) -> None:
    plugin, made, lead = ran(site, tmp_path)
    lead.guest_attributes["reason"] = "the machine had no memory left"
    lead.guest_attributes["exit-code"] = "137"
    now = plugin.refresh(made)
    assert (now.exit_code, now.error) == (137, "the machine had no memory left")


@with_flux
def test_output_that_cannot_be_read_is_asked_for_again(site: Site, tmp_path: Path) -> None:
    plugin, made, lead = ran(site, tmp_path)
    lead.guest_attributes["exit-code"] = "0"
    site.fail("instances.getSerialPortOutput", 503, "backendError")
    now = plugin.refresh(made)
    assert (now.exit_code, now.output.startswith(UNREAD)) == (0, True)
    assert Path(plugin.refresh(now).output).is_file()


@with_flux
@pytest.mark.parametrize("why", ["TERMINATED", "STOPPING", "gone"])
def test_a_job_whose_machine_dies_each_time_is_started_three_times(
    site: Site, tmp_path: Path, why: str
) -> None:
    table = {**site.parameters, **MOCKED, "output_dir": str(tmp_path)}
    policy = Policy(breakers=Breaking(failures=1000))
    instance = EmbeddedInstance(
        Recording((job(1, spec(1, burstable=1, duration=600.0), userid=os.getuid()),), ())
    )
    config = Config(plugins={"compute_engine": table}, policy=policy)
    client = FluxBurst(instance, config=config)
    client.load("compute_engine")
    started: list[str] = []
    for _ in range(30):
        instance.advance(time.time() - instance.now())
        client.run_burst()
        site.settle()
        for (_, name), machine in list(site.machines.items()):
            if name not in started:
                started.append(name)
                machine.instance.status = "RUNNING"
                machine.guest_attributes["state"] = RUNNING
            elif why == "gone":
                site.lose(name)
            else:
                machine.instance.status = why
    assert len(started) == 3
    assert (instance.job(1).urgency, instance.job(1).mark, site.left()) == (16, None, [])


# --- with a live Flux ----------------------------------------------------------------------------


@pytest.fixture
def flux() -> Iterator[Flux]:
    with running_flux(size=2) as running:
        running("submit", "-N2", "--exclusive", "--wait-event=start", "sleep", "inf")
        yield running


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
@pytest.mark.parametrize(
    ("nodes", "command", "code", "output"),
    [(1, "echo hello; exit 3", 3, "hello\n"), (2, "echo $((6 * 7))", 0, "42\n42\n")],
)
def test_a_job_runs_there_and_ends_here_as_it_ended_there(
    machines: Site, flux: Flux, tmp_path: Path, nodes: int, command: str, code: int, output: str
) -> None:
    import flux as binding

    job = flux("submit", f"-N{nodes}", "-t10m", "--setattr=burstable", "sh", "-c", command)
    table = {**machines.parameters, **MOCKED, "output_dir": str(tmp_path / "output")}
    config = Config(plugins={"compute_engine": table})
    with FluxBurst(binding.Flux(flux.uri), config=config, state_dir=tmp_path / "state") as client:
        client.load("compute_engine")
        client.run_burst()

        def ended() -> bool:
            client.run_burst()
            return flux("jobs", "-no", "{state}", job) == "INACTIVE"

        wait_until(ended, f"the job ends {machines.logs()}", 90)
        said = flux("job", "eventlog", job)

        def gone() -> bool:
            client.reconcile()
            return machines.left() == []

        wait_until(gone, "nothing is left", 60)
    assert f"with exit code {code}" in said
    (written,) = (tmp_path / "output").iterdir()
    assert [line for line in written.read_text().splitlines() if "flux-" not in line][
        : output.count("\n")
    ] == output.splitlines()
    assert machines.left() == []


def test_isolated_bursts_of_another_instance_are_not_taken_for_ones_own(
    site: Site, elastic: Path
) -> None:
    def tag(name: str, *, isolated: bool = True) -> str:
        table = {**site.parameters, "config_dir": str(elastic), "isolated_burst": isolated}
        config = Config(plugins={"compute_engine": table})
        client = FluxBurst(EmbeddedInstance(name=name), config=config)
        plugin = client.load("compute_engine")
        assert isinstance(plugin, ComputeEngineBurst)
        return plugin.tag

    assert len({tag("here"), tag("there"), tag("here", isolated=False)}) == 3
    assert tag("here") == tag("here")
