"""Bursts onto a real Slurm, an enclosing Flux, and a real sshd, all on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from growing import Growing, brokers_of, free_port, growing, outside, wait_until
from parts import Slurm, Sshd, running_slurm, running_sshd, slurm_available, ssh_available
from support import flux_available

from fluxburst import Burst, BurstState, FluxBurst
from fluxburst.cli.progress import follow
from fluxburst.errors import BurstErrors
from fluxburst_local import LocalBurst

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]


def on_slurm(test: object) -> object:
    """Mark a test that needs a Slurm cluster."""
    skip = pytest.mark.skipif(not slurm_available(), reason="no Slurm")
    return pytest.mark.slurm(skip(test))


def on_ssh(test: object) -> object:
    """Mark a test that needs an sshd."""
    skip = pytest.mark.skipif(not ssh_available(), reason="no ssh and sshd")
    return pytest.mark.ssh(skip(test))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm(nodes=4) as cluster:
        yield cluster


def transcript(directory: Path) -> list[str]:
    """Return a command that does what the README shows, in a directory of its own."""
    fluxburst = shlex.join([sys.executable, "-m", "fluxburst"])
    inner = f"""
    flux submit -N 3 --setattr=burstable hostname
    {fluxburst} --config ./elastic/fluxburst.toml run
    flux job attach $(flux job last)
    {fluxburst} --config ./elastic/fluxburst.toml unburst --all
    flux resource list -s down -no '{{nnodes}} down'
    """
    script = f"""
    cd {shlex.quote(str(directory))} && export SHELL=/bin/sh
    {fluxburst} local init ./elastic --burst-nodes 3 --port {free_port()}
    {fluxburst} local start ./elastic -- sh -c {shlex.quote(inner)}
    """
    return ["sh", "-ec", script]


def check_transcript(done: subprocess.CompletedProcess[str], directory: Path, by: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"by launcher {by}." in done.stdout
    assert "1 jobs selected, 1 given, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert done.stdout.splitlines()[-1] == "3 down"
    assert dict(brokers_of(directory / "elastic")) == {}


def bring_up(client: FluxBurst) -> list[Burst]:
    client.run_burst()
    return follow(client, 60, quiet=True)


def local(client: FluxBurst) -> LocalBurst:
    plugin = client.plugins["local"]
    assert isinstance(plugin, LocalBurst)
    return plugin


# --- Slurm -------------------------------------------------------------------------------------


@on_slurm
def test_the_transcript_works_on_the_other_nodes_of_a_slurm_allocation(
    slurm: Slurm, tmp_path: Path
) -> None:
    done = slurm.in_allocation(*transcript(tmp_path), nodes=4, seconds=120)
    check_transcript(done, tmp_path, "srun")


@on_slurm
def test_the_transcript_works_in_an_allocation_of_one_node_by_another_job(
    slurm: Slurm, tmp_path: Path
) -> None:
    done = slurm.in_allocation(*transcript(tmp_path), nodes=1, seconds=120)
    check_transcript(done, tmp_path, "slurm")
    assert slurm("squeue", "--noheader", "--states=PENDING,RUNNING") == ""


@pytest.fixture
def by_slurm(slurm: Slurm, tmp_path: Path) -> Iterator[Growing]:
    """An instance that bursts by jobs of Slurm."""
    options = ["--burst-nodes=3", "--launcher=slurm", "--cores=2", "--lead-cores=2"]
    environment = {**outside(), **slurm.environment}
    with growing(tmp_path / "elastic", *options, environment=environment) as made:
        yield made
        slurm("scancel", "--name=local-1")


@on_slurm
def test_a_burst_is_a_slurm_job_of_its_name_and_is_found_by_it(
    slurm: Slurm, by_slurm: Growing
) -> None:
    jobid = by_slurm.submit("-N3", "hostname")
    client = by_slurm.client(launcher="slurm")
    (burst,) = bring_up(client)
    assert burst.state is BurstState.READY
    assert slurm("squeue", "--noheader", "--format=%j %D %t") == f"{burst.name} 2 R"
    client.wait_for_jobs([jobid])
    other = by_slurm.client(launcher="slurm")
    assert [found.name for found in local(other).adopt()] == [burst.name]
    assert other.run_unburst() == [burst.name]
    assert slurm("squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    assert by_slurm.left_over() == []


@on_slurm
def test_a_burst_that_waits_in_slurms_queue_says_so_and_is_given_up_in_time(
    slurm: Slurm, by_slurm: Growing
) -> None:
    busy = slurm("sbatch", "--parsable", "--nodes=4", "--wrap=sleep 600")
    wait_until(lambda: slurm("squeue", "-j", busy, "-h", "-o%t") == "R", "the nodes are busy")
    jobid = by_slurm.submit("-N3", "hostname")
    client = by_slurm.client(launcher="slurm", queue_timeout="2s")
    client.run_burst()
    (burst,) = client.refresh_bursts()
    assert burst.state is BurstState.REQUESTED
    assert burst.error.startswith("waits in Slurm's queue")
    (burst,) = follow(client, 60, quiet=True)
    assert burst.state is BurstState.FAILED
    assert "waited longer than 2s for its nodes" in burst.error
    assert client.instance.pending_jobs()[0].mark is None
    assert slurm("squeue", "--noheader", "--format=%i") == busy
    slurm("scancel", busy)
    wait_until(lambda: slurm("squeue", "-h", "-j", busy, "-t", "R,CG") == "", "the nodes are free")
    assert [b.state for b in bring_up(by_slurm.client(launcher="slurm"))] == [BurstState.READY]
    client.wait_for_jobs([jobid])
    by_slurm.client(launcher="slurm").run_unburst()


@on_slurm
def test_a_slurm_job_that_somebody_cancels_is_mended_by_the_next_run(
    slurm: Slurm, by_slurm: Growing
) -> None:
    running = by_slurm.submit("-N3", "sleep", "600")
    client = by_slurm.client(launcher="slurm")
    (burst,) = bring_up(client)
    client.wait_for_jobs([running], ["RUN"])
    slurm("scancel", f"--name={burst.name}")
    wait_until(lambda: len(by_slurm.up()) == 1, "its nodes are down")
    client.wait_for_jobs([running])
    waiting = by_slurm.submit("-N3", "hostname")
    mender = by_slurm.client(launcher="slurm")
    *cancelled, other = bring_up(mender)  # Slurm lists it for as long as it cleans up after it
    assert {b.state for b in cancelled} <= {BurstState.FAILED}
    assert other.state is BurstState.READY
    assert not [entry for entry in mender.ledger.live() if entry.burst.name == burst.name]
    mender.wait_for_jobs([waiting])
    mender.run_unburst()
    assert by_slurm.left_over() == []


@on_slurm
def test_an_unknown_partition_is_refused_and_the_job_stays_free(by_slurm: Growing) -> None:
    by_slurm.submit("-N3", "hostname")
    client = by_slurm.client(launcher="slurm", partition="nope")
    with pytest.raises(BurstErrors, match=r"Slurm has no partition 'nope' \[choose from main\]"):
        client.run_burst()
    assert client.instance.pending_jobs()[0].mark is None


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
    by_flux.submit("-N4", "sleep", "600")
    client = by_flux.client(launcher="flux")
    (burst,) = bring_up(client)
    assert (burst.state, burst.nodes) == (BurstState.READY, 3)
    jobs = ["flux", "jobs", "-no", "{name} {nnodes} {ranks}"]
    listed = subprocess.run(jobs, env=enclosing, capture_output=True, text=True, check=True)
    assert listed.stdout.strip() == f"{burst.name} 3 [1-3]"
    subprocess.run(["flux", "cancel", "--all", "--quiet"], env=enclosing, check=True)
    wait_until(lambda: len(by_flux.up()) == 1, "its nodes are down")
    wait_until(lambda: client.list_jobs() == [], "Flux has failed the job")
    waiting = by_flux.submit("-N4", "hostname")
    mender = by_flux.client(launcher="flux")
    assert [b.state for b in bring_up(mender)] == [BurstState.FAILED, BurstState.READY]
    mender.wait_for_jobs([waiting])
    assert len(by_flux.client(launcher="flux").run_unburst()) == 1
    listed = subprocess.run(jobs, env=enclosing, capture_output=True, text=True, check=True)
    assert (listed.stdout, by_flux.left_over()) == ("", [])


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
    (burst,) = bring_up(client)
    assert (burst.state, burst.hostnames) == (BurstState.READY, tuple(sshd.hosts[1:]))
    client.wait_for_jobs([jobid])
    other = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    assert other.run_unburst() == [burst.name]
    wait_until(lambda: by_ssh.left_over() == [], "nothing is left on the hosts")


@on_ssh
def test_a_broker_ends_when_its_connection_does_and_is_mended_by_the_next_run(
    sshd: Sshd, by_ssh: Growing
) -> None:
    running = by_ssh.submit("-N3", "sleep", "600")
    client = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    (burst,) = bring_up(client)
    client.wait_for_jobs([running], ["RUN"])
    local(client).launcher.end(burst.name)
    wait_until(lambda: by_ssh.brokers() == {}, "the remote brokers have ended")
    client.wait_for_jobs([running])
    waiting = by_ssh.submit("-N3", "hostname")
    mender = by_ssh.client(launcher="ssh", ssh_args=sshd.options)
    assert [b.state for b in bring_up(mender)] == [BurstState.FAILED, BurstState.READY]
    mender.wait_for_jobs([waiting])
    mender.run_unburst()


@on_ssh
def test_a_host_with_another_key_than_it_is_known_by_is_refused(
    sshd: Sshd, by_ssh: Growing
) -> None:
    by_ssh.submit("-N2", "hostname")
    options = sshd.options_with(sshd.wrong_known_hosts)
    client = by_ssh.client(launcher="ssh", ssh_args=options)
    (burst,) = bring_up(client)
    assert burst.state is BurstState.FAILED
    assert "ssh: Host key verification failed" in burst.error
    assert by_ssh.left_over() == []
