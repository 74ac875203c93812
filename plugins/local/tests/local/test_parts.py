"""That the parts which other tests lean on are real, and leave nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.local import parts
from tests.local.parts import (
    Daemons,
    Slurm,
    Sshd,
    running_slurm,
    running_sshd,
    slurm_available,
    ssh_available,
)

needs_slurm = pytest.mark.skipif(not slurm_available(), reason="no Slurm with its daemons")
needs_ssh = pytest.mark.skipif(not ssh_available(), reason="no sshd")
STRICT = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    with running_slurm() as running:
        yield running


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with running_sshd(hosts=2) as running:
        yield running


def ssh(sshd: Sshd, options: list[str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", "none", *STRICT, *options, sshd.hosts[-1], *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_gone(daemons: Daemons, pids: list[int]) -> None:
    assert pids
    assert daemons.processes() == []
    assert not set(pids) & set(parts._running())
    assert not daemons.directory.exists()


def wait_for_job(slurm: Slurm) -> None:
    slurm.daemons.wait_for("a job", lambda: slurm("squeue", "-ho", "%T") == "RUNNING")


@pytest.mark.slurm
@needs_slurm
def test_a_cluster_runs_commands_on_all_of_its_nodes(slurm: Slurm) -> None:
    assert sorted(slurm("srun", "-N4", "printenv", "SLURMD_NODENAME").split()) == slurm.nodes
    assert slurm.nodes == ["n1", "n2", "n3", "n4"]


@pytest.mark.slurm
@needs_slurm
def test_a_command_in_an_allocation_is_waited_for(slurm: Slurm) -> None:
    script = "srun printenv SLURMD_NODENAME; echo it ends >&2; exit 3"
    done = slurm.in_allocation("sh", "-c", script, nodes=3)
    assert (done.returncode, done.stderr) == (3, "it ends\n")
    assert sorted(done.stdout.split()) == ["n1", "n2", "n3"]
    assert slurm.in_allocation("sh", "-c", "kill -9 $$").returncode == -9
    with pytest.raises(AssertionError, match=r"was RUNNING after 1.5 s:\nbusy"):
        slurm.in_allocation("sh", "-c", "echo busy; sleep 60", seconds=1.5)


@pytest.mark.slurm
@needs_slurm
def test_clusters_run_beside_each_other_and_end_with_their_jobs() -> None:
    with running_slurm(2) as one, running_slurm(1) as other:
        one("sbatch", "-N2", "--output=/dev/null", stdin="#!/bin/sh\nsrun sleep 600 & wait\n")
        other("sbatch", "--output=/dev/null", stdin="#!/bin/sh\nsetsid env -i sleep 600\n")
        for slurm in (one, other):
            wait_for_job(slurm)
        pids = {slurm.daemons.directory: slurm.daemons.processes() for slurm in (one, other)}
        assert not set.intersection(*map(set, pids.values()))
    for slurm in (one, other):
        assert_gone(slurm.daemons, pids[slurm.daemons.directory])


@pytest.mark.slurm
@needs_slurm
def test_a_cluster_that_does_not_come_up_says_why_and_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "SLURM_CONF", parts.SLURM_CONF + "Nonsense=1\n")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        pytest.raises(AssertionError, match=r"(?s)slurmctld did not come up.*Nonsense"),
        running_slurm(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    sought = os.fsencode(tmp_path)
    assert not [pid for pid in parts._running() if sought in parts._command_line(pid)]


@pytest.mark.ssh
@needs_ssh
def test_ssh_gets_in_with_its_key_and_knows_the_host(sshd: Sshd) -> None:
    done = ssh(sshd, sshd.options, "id -un; exit 5")
    assert (done.stdout, done.returncode) == (f"{sshd.user}\n", 5), done.stderr


@pytest.mark.ssh
@needs_ssh
def test_ssh_refuses_a_host_of_another_key(sshd: Sshd) -> None:
    done = ssh(sshd, sshd.options_with(sshd.wrong_known_hosts), "true")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


@pytest.mark.ssh
@needs_ssh
def test_an_sshd_ends_with_all_that_was_started_through_it() -> None:
    with running_sshd() as one:
        with running_sshd() as other:
            other_pids = other.daemons.processes()
        ssh(one, one.options, "setsid sleep 600 >/dev/null 2>&1 & sleep 600 >/dev/null 2>&1 &")
        pids = one.daemons.processes()
        assert len(pids) > 2
    assert_gone(other.daemons, other_pids)
    assert_gone(one.daemons, pids)


def test_the_directory_that_an_sshd_of_root_wants_goes_with_its_last_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    directory = tmp_path / "sshd"
    monkeypatch.setattr(parts, "PRIVILEGE_SEPARATION", directory)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    first, second = parts._privilege_separation(), parts._privilege_separation()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert directory.exists()
    second.__exit__(None, None, None)
    assert not directory.exists()
    directory.mkdir(mode=0o755)
    with parts._privilege_separation():
        pass
    assert directory.exists()


def test_ports_are_kept_for_whoever_asks_for_them() -> None:
    with parts._free_ports(20) as ports, parts._free_ports(20) as others:
        assert len({*ports, *others}) == 40
        with socket.create_server(("127.0.0.1", ports[0])):  # reuses addresses, as daemons do
            assert parts._answers(ports[0])
        assert not parts._answers(ports[0])
