"""Bursts onto a real Slurm on this machine."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.elastic_instance import outside, provision, wait_until
from tests.local.growing import Growing, check_transcript, growing, local_plugin, transcript
from tests.local.isolating import check_it_runs_there, isolated_transcript
from tests.local.parts import Slurm, running_slurm, slurm_available
from tests.support import Elsewhere, flux_available

from fluxburst import BurstState, NodeType
from fluxburst.cli.progress import follow
from fluxburst.errors import BurstErrors
from fluxburst.model.job import Mark

pytestmark = [
    pytest.mark.flux,
    pytest.mark.skipif(not flux_available(), reason="no live Flux"),
]


def on_slurm(test: object) -> object:
    """Mark a test that needs a Slurm cluster."""
    skip = pytest.mark.skipif(not slurm_available(), reason="no Slurm")
    return pytest.mark.slurm(skip(test))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm(nodes=4) as cluster:
        yield cluster


@on_slurm
def test_the_transcript_works_on_the_other_nodes_of_a_slurm_allocation(
    slurm: Slurm, tmp_path: Path
) -> None:
    done = slurm.in_allocation(*transcript(tmp_path), nodes=4, seconds=120)
    check_transcript(done, tmp_path, "srun")


@pytest.mark.soak
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
    (burst,) = provision(client)
    assert burst.state is BurstState.READY
    assert slurm("squeue", "--noheader", "--format=%j %D %t") == f"{burst.name} 2 R"
    client.wait_for_jobs([jobid])
    other = by_slurm.client(launcher="slurm")
    assert [found.name for found in local_plugin(other).adopt()] == [burst.name]
    assert other.run_unburst() == [burst.name]
    assert slurm("squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    assert by_slurm.left_over() == []


@on_slurm
def test_an_isolated_burst_is_a_slurm_job(slurm: Slurm, by_slurm: Growing, tmp_path: Path) -> None:
    check_it_runs_there(by_slurm, tmp_path / "output", launcher="slurm")
    assert slurm("squeue", "--noheader", "--states=PENDING,RUNNING") == ""


@on_slurm
def test_an_isolated_burst_runs_in_steps_of_an_allocation(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.in_allocation(*isolated_transcript(tmp_path), nodes=4, seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by launcher srun." in done.stdout
    assert "it failed in burst local-" in done.stdout
    assert f"with exit code 3; its output: {tmp_path}/output/local-" in done.stdout
    assert list((tmp_path / "elastic" / "isolated").glob("*/*")) == []


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
    assert burst.waiting_for.startswith("waits in Slurm's queue")
    (burst,) = follow(client, 60, quiet=True)
    assert burst.state is BurstState.FAILED
    assert "waited longer than 2s for its nodes" in burst.error
    assert client.instance.pending_jobs()[0].mark is None
    assert slurm("squeue", "--noheader", "--format=%i") == busy
    slurm("scancel", busy)
    wait_until(lambda: slurm("squeue", "-h", "-j", busy, "-t", "R,CG") == "", "the nodes are free")
    assert [b.state for b in provision(by_slurm.client(launcher="slurm"))] == [BurstState.READY]
    client.wait_for_jobs([jobid])
    by_slurm.client(launcher="slurm").run_unburst()


@on_slurm
def test_a_burst_asks_for_what_its_partition_allows_or_is_refused(
    slurm: Slurm, by_slurm: Growing
) -> None:
    by_slurm.submit("-N2", "-t1m", "hostname")
    client = by_slurm.client(launcher="slurm", partition="short")
    assert client.policy.lifetimes.lease > 1800
    (burst,) = provision(client)
    assert burst.state is BurstState.READY
    assert slurm("squeue", "--noheader", "--format=%P %l") == "short 30:00"
    assert burst.lease_until is not None
    assert burst.lease_until - client.now() <= 1800
    long = by_slurm.submit("-N4", "-t40m", "hostname")
    (decision,) = [one for one in client.plan().decisions if one.id == long]
    assert "it may run 40m, and a burst of local lives 30m at most" in decision.reasons[0]
    by_slurm.flux("cancel", str(long))
    client.run_unburst()

    # More nodes are refused, though Slurm accepts the job: it is offered to the next plugin.
    by_slurm.submit("-N3", "-t1m", "hostname")
    client = by_slurm.client(launcher="slurm", partition="short")
    other = Elsewhere("other", NodeType("node", cores=2, max_nodes=8))
    client.plugins["other"] = other

    def given_to_the_other() -> bool:
        with contextlib.suppress(BurstErrors):
            client.run_burst()
        return bool(other.created)

    wait_until(given_to_the_other, "it is given to the other plugin")
    (entry,) = [e for e in client.ledger.entries() if e.burst.state is BurstState.FAILED]
    refused = r"Slurm does not start job \d+ \(Partition(NodeLimit|Config)\): the partition"
    assert re.search(refused, entry.burst.error)
    assert slurm("squeue", "--noheader", "--states=PENDING,RUNNING") == ""
    (mark,) = [job.mark for job in client.instance.pending_jobs()]
    assert mark == Mark("other", other.created[0])


@on_slurm
def test_a_job_that_is_held_while_it_waits_in_slurms_queue_is_a_refusal(
    slurm: Slurm, by_slurm: Growing
) -> None:
    busy = slurm("sbatch", "--parsable", "--nodes=4", "--wrap=sleep 600")
    wait_until(lambda: slurm("squeue", "-j", busy, "-h", "-o%t") == "R", "the nodes are busy")
    by_slurm.submit("-N3", "hostname")
    client = by_slurm.client(launcher="slurm")
    client.run_burst()
    (burst,) = client.refresh_bursts()
    assert burst.state is BurstState.REQUESTED
    slurm("scontrol", "hold", f"name={burst.name}")
    client.refresh_bursts()
    wait_until(lambda: slurm("squeue", "--noheader", "--format=%i") == busy, "its job is cancelled")
    (burst,) = client.refresh_bursts()
    assert burst.state is BurstState.FAILED
    assert "(JobHeldAdmin), and a person must act: an administrator holds it" in burst.error
    assert client.instance.pending_jobs()[0].mark is None
    slurm("scancel", busy)


@on_slurm
def test_a_slurm_job_that_somebody_cancels_is_mended_by_the_next_run(
    slurm: Slurm, by_slurm: Growing
) -> None:
    running = by_slurm.submit("-N3", "-oexit-timeout=1s", "sleep", "600")
    client = by_slurm.client(launcher="slurm")
    (burst,) = provision(client)
    client.wait_for_jobs([running], ["RUN"])
    slurm("scancel", f"--name={burst.name}")
    wait_until(lambda: len(by_slurm.up()) == 1, "its nodes are down")
    client.wait_for_jobs([running])
    waiting = by_slurm.submit("-N3", "hostname")
    mender = by_slurm.client(launcher="slurm")
    *cancelled, other = provision(mender)  # Slurm lists it for as long as it cleans up after it
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
    refused = r"Slurm has no partition 'nope' \[choose from main, short\]"
    with pytest.raises(BurstErrors, match=refused):
        client.run_burst()
    assert client.instance.pending_jobs()[0].mark is None
