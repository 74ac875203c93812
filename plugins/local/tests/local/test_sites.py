"""Bursts onto an enclosing Flux, and a real sshd, on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.elastic_instance import outside, provision, wait_until
from tests.local.growing import Growing, check_transcript, growing, local_plugin, transcript
from tests.local.isolating import check_it_runs_there
from tests.local.parts import Sshd, running_sshd, ssh_available
from tests.support import flux_available

from fluxburst import BurstState
from fluxburst.errors import BurstErrors

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]


def on_ssh(test: object) -> object:
    """Mark a test that needs an sshd."""
    skip = pytest.mark.skipif(not ssh_available(), reason="no ssh and sshd")
    return pytest.mark.ssh(skip(test))


# --- an enclosing Flux -------------------------------------------------------------------------


def test_the_transcript_works_in_an_enclosing_flux_instance(tmp_path: Path) -> None:
    done = subprocess.run(
        ["flux", "start", "--test-size=4", *transcript(tmp_path)],
        env=outside(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    check_transcript(done, tmp_path, "flux")


@pytest.fixture
def by_flux(tmp_path: Path) -> Iterator[Growing]:
    """An instance that bursts by jobs of an enclosing one; its URI is in the file ``uri``."""
    waits = f'echo "$FLUX_URI" > {shlex.quote(str(tmp_path / "uri"))}; exec cat'
    process = subprocess.Popen(
        ["flux", "start", "--test-size=4", "--test-exit-mode=leader", "sh", "-c", waits],
        env=outside(),
        stdin=subprocess.PIPE,
    )
    try:
        uri = tmp_path / "uri"
        wait_until(lambda: uri.exists() and uri.read_text().strip(), "the enclosing instance is up")
        environment = {**outside(), "FLUX_URI": uri.read_text().strip()}
        with growing(tmp_path / "elastic", environment=environment) as made:
            yield made
    finally:
        process.communicate(timeout=60)  # it ends with its standard input, its brokers with it


def test_a_burst_is_a_job_of_the_enclosing_instance_on_other_nodes_than_the_leads(
    by_flux: Growing, tmp_path: Path
) -> None:
    enclosing = {**os.environ, "FLUX_URI": (tmp_path / "uri").read_text().strip()}
    by_flux.submit("-N4", "-oexit-timeout=1s", "sleep", "600")
    client = by_flux.client(launcher="flux")
    (burst,) = provision(client)
    assert (burst.state, burst.nodes) == (BurstState.READY, 3)
    jobs = ["flux", "jobs", "-no", "{name} {nnodes} {ranks}"]
    listed = subprocess.run(jobs, env=enclosing, capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == f"{burst.name} 3 [1-3]"
    subprocess.run(["flux", "cancel", "--all", "--quiet"], env=enclosing, check=True)
    wait_until(lambda: len(by_flux.up()) == 1, "its nodes are down")
    wait_until(lambda: client.list_jobs() == [], "Flux has failed the job")
    waiting = by_flux.submit("-N4", "hostname")
    mender = by_flux.client(launcher="flux")
    assert [b.state for b in provision(mender)] == [BurstState.FAILED, BurstState.READY]
    mender.wait_for_jobs([waiting])
    assert len(by_flux.client(launcher="flux").run_unburst()) == 1
    listed = subprocess.run(jobs, env=enclosing, capture_output=True, text=True, check=True)
    assert (listed.stdout, by_flux.left_over()) == ("", [])


def test_an_isolated_burst_is_a_job_of_the_enclosing_instance(
    by_flux: Growing, tmp_path: Path
) -> None:
    check_it_runs_there(by_flux, tmp_path / "output", launcher="flux")


def test_of_an_isolated_burst_that_was_taken_down_nothing_runs_on(
    by_flux: Growing, tmp_path: Path
) -> None:
    client = by_flux.client(launcher="flux", isolated_burst=True)
    leaves = "trap '' TERM HUP; env -i setsid sleep inf & echo $! > $0; while :; do sleep 1; done"
    alive = tmp_path / "alive"
    by_flux.submit("-N2", "-n2", "sh", "-c", leaves, str(alive))
    client.run_burst()
    wait_until(lambda: alive.exists() and alive.read_text().strip(), "the job runs")
    left = psutil.Process(int(alive.read_text()))
    by_flux.flux("queue", "stop", "--all")
    client.run_unburst()
    wait_until(lambda: not left.is_running(), "what its job left has ended")
    assert by_flux.left_over() == []


def test_an_enclosing_instance_that_is_gone_is_named_and_nothing_is_presumed(
    by_flux: Growing,
) -> None:
    by_flux.submit("-N4", "hostname")
    client = by_flux.client(launcher="flux", flux_uri="local:///nowhere/local-0")
    with pytest.raises(BurstErrors, match="local:///nowhere/local-0 does not answer"):
        client.run_burst()
    assert client.instance.pending_jobs()[0].mark is None


# --- ssh ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with running_sshd(hosts=3) as server:
        yield server


@pytest.fixture
def by_ssh(sshd: Sshd, tmp_path: Path) -> Iterator[Growing]:
    """An instance that bursts by ssh."""
    hosts = ",".join(sshd.hosts[1:])
    options = [f"--burst-hosts={hosts}", "--launcher=ssh", "--cores=2", "--lead-cores=2"]
    with growing(tmp_path / "elastic", *options) as made:
        yield made


@on_ssh
def test_brokers_run_on_hosts_that_ssh_reaches_and_end_with_their_burst(
    sshd: Sshd, by_ssh: Growing
) -> None:
    jobid = by_ssh.submit("-N3", "hostname")
    client = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    (burst,) = provision(client)
    assert (burst.state, burst.hostnames) == (BurstState.READY, tuple(sshd.hosts[1:]))
    client.wait_for_jobs([jobid])
    other = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    assert other.run_unburst() == [burst.name]
    wait_until(lambda: by_ssh.left_over() == [], "nothing is left on the hosts")


@on_ssh
def test_an_isolated_burst_runs_on_hosts_that_ssh_reaches(
    sshd: Sshd, by_ssh: Growing, tmp_path: Path
) -> None:
    options = {"launcher": "ssh", "ssh_args": sshd.options}
    check_it_runs_there(by_ssh, tmp_path / "output", **options)


@pytest.mark.soak
@on_ssh
def test_a_broker_ends_when_its_connection_does_and_is_mended_by_the_next_run(
    sshd: Sshd, by_ssh: Growing
) -> None:
    running = by_ssh.submit("-N3", "-oexit-timeout=1s", "sleep", "600")
    client = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    (burst,) = provision(client)
    client.wait_for_jobs([running], ["RUN"])
    local_plugin(client).launcher.end(burst.name)
    wait_until(lambda: by_ssh.brokers() == {}, "the remote brokers have ended")
    client.wait_for_jobs([running])
    waiting = by_ssh.submit("-N3", "hostname")
    mender = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    assert [b.state for b in provision(mender)] == [BurstState.FAILED, BurstState.READY]
    mender.wait_for_jobs([waiting])
    mender.run_unburst()


@on_ssh
def test_a_host_with_another_key_than_it_is_known_by_is_refused(
    sshd: Sshd, by_ssh: Growing
) -> None:
    by_ssh.submit("-N2", "hostname")
    options = sshd.options_with(sshd.wrong_known_hosts)
    client = by_ssh.client(launcher="ssh", ssh_args=options)
    (burst,) = provision(client)
    assert burst.state is BurstState.FAILED
    assert "ssh: Host key verification failed" in burst.error
    assert by_ssh.left_over() == []
