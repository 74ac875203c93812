"""Bursts onto real brokers: an instance grows by nodes of node pools that Google's part keeps."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apiserver import Server, free_port, wait_until
from gke_site import Site, gke_site
from growing_pods import command_line, outside
from live import Flux
from support import flux_available

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.config import Config, load
from fluxburst.elastic import this_host

pytestmark = [
    pytest.mark.flux,
    pytest.mark.kubernetes,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]

SPACE = "gke-bursting"
TYPES = ["--machine-type=c2-standard-8=3", "--machine-type=n2-standard-16=2"]


class Growing:
    """A running elastic instance, and the project that it grows into."""

    def __init__(self, directory: Path, uri: str, site: Site) -> None:
        self.directory, self.flux, self.site = directory, Flux(uri), site
        self._client: FluxBurst | None = None

    def client(self, **parameters: Any) -> FluxBurst:
        """Return a new client as its fluxburst.toml says; that of before is closed."""
        import flux

        self.release()
        written = load(self.directory / "fluxburst.toml").plugins["gke"]
        table = {**written, **self.site.parameters, "poll_interval": 0.1, **parameters}
        self._client = FluxBurst(flux.Flux(self.flux.uri), config=Config(plugins={"gke": table}))
        self._client.load("gke")
        return self._client

    def release(self) -> None:
        """Close the client of before: another process may act."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def submit(self, *arguments: str) -> int:
        """Submit a job that may burst; return its id."""
        return int(self.flux("job", "id", self.flux("submit", "--setattr=burstable", *arguments)))


@pytest.fixture(scope="module")
def instance(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Growing]:
    base = tmp_path_factory.mktemp("gke")
    directory = base / "elastic"
    usual = ["--address=127.0.0.1", f"--port={free_port()}", "--lead-cores=2", "--clusters=2"]
    made = command_line("gke", "init", str(directory), f"--namespace={SPACE}", *usual, *TYPES)
    assert made.returncode == 0, made.stderr
    flux = shutil.which("flux") or ""
    with gke_site(server, base / "site", flux) as site, pytest.MonkeyPatch.context() as patch:
        for name, value in site.environment.items():
            patch.setenv(name, value)
        lead = subprocess.Popen(
            [str(directory / "start"), "sh", "-c", 'echo "$FLUX_URI"; exec sleep inf'],
            env=outside(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert lead.stdout is not None
        try:
            growing = Growing(directory, lead.stdout.readline().strip(), site)
            yield growing
            growing.release()
        finally:
            lead.terminate()
            lead.communicate(timeout=60)


@pytest.fixture
def grown(instance: Growing) -> Iterator[Growing]:
    """An instance with room for bursts of two machine types, all of them down."""
    yield instance
    site = instance.site
    site.operator.pods_are = "joined"
    site.none_of.clear()
    instance.flux("cancel", "--all", "--quiet")
    wait_until(lambda: instance.flux("jobs", "-no", "{id}") == "", "all jobs have ended")
    instance.client(cancel_jobs=True).run_unburst()
    instance.release()
    assert site.left() == []


def up(client: FluxBurst, seconds: float = 60) -> list[Burst]:
    """Run a cycle and wait for what it brings up."""
    client.run_burst()
    return follow(client, seconds, quiet=True)


def test_the_cheapest_machine_type_that_fits_joins_runs_the_job_and_goes(grown: Growing) -> None:
    client = grown.client()
    small = grown.submit("-N2", "--exclusive", "hostname")
    (burst,) = up(client)
    assert (burst.state, burst.node_type) == (BurstState.READY, "c2-standard-8"), (
        burst,
        grown.site.operator.logs(),
    )
    client.wait_for_jobs([small])
    nodes = grown.flux("jobs", "-no", "{nodelist}", str(small))
    assert nodes == f"{this_host()},{burst.hostnames[0]}"
    large = grown.submit("-n1", "-c8", "nproc")
    (other,) = [one for one in up(client) if one.name != burst.name]
    assert (other.state, other.node_type) == (BurstState.READY, "n2-standard-16")
    client.wait_for_jobs([large])
    assert grown.flux("jobs", "-no", "{status}", str(large)) == "COMPLETED"
    assert sorted(client.run_unburst()) == sorted([burst.name, other.name])
    assert grown.site.left() == []


def test_spot_that_there_is_none_of_fails_over_to_machines_on_demand(grown: Growing) -> None:
    grown.site.none_of.add("spot")
    client = grown.client(provisioning="spot, then on-demand")
    job = grown.submit("-N2", "--exclusive", "hostname")
    bursts = up(client)
    assert [one.node_type for one in bursts if one.state is BurstState.READY] == ["c2-standard-8"]
    assert any(one.node_type.endswith("-spot") for one in bursts)
    client.wait_for_jobs([job])
    client.run_unburst()
    assert grown.site.left() == []


def test_another_process_goes_on_with_the_bursts_of_one_that_ended(grown: Growing) -> None:
    job = grown.submit("-N3", "--exclusive", "hostname")
    grown.client().run_burst()
    grown.release()
    (burst,) = up(grown.client())
    assert burst.state is BurstState.READY
    grown.client().wait_for_jobs([job])
    assert grown.client().run_unburst() == [burst.name]
    assert grown.site.left() == []


def test_nodes_that_never_join_are_cleaned_up_with_their_pool(grown: Growing) -> None:
    grown.site.operator.pods_are = "running"
    grown.submit("-N2", "--exclusive", "hostname")
    (burst,) = up(grown.client(join_timeout=0.5))
    assert burst.state is BurstState.FAILED
    assert "did not join within" in burst.error
    assert grown.site.left() == []
