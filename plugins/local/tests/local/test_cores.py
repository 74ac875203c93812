"""Cores, not hardware threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fluxburst_local.allocations import surroundings
from fluxburst_local.cores import cores_here, cores_of_slurm_node


def topology(directory: Path, name: str, *cores: str) -> Path:
    """Write what Linux tells of cores, each given by its threads."""
    for core in cores:
        first, _, last = core.replace(",", "-").partition("-")
        for thread in {first, last or first}:
            file = directory / f"cpu{thread}" / "topology" / name
            file.parent.mkdir(parents=True)
            file.write_text(f"{core}\n")
    return directory


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_two_threads_of_a_core_are_one_core(tmp_path: Path, name: str) -> None:
    cpus = topology(tmp_path, name, "0,4", "1,5", "2,6", "3,7")
    assert cores_here(range(8), cpus) == 4
    assert cores_here([0, 4], cpus) == 1
    assert cores_here([0, 1, 6], cpus) == 3


def test_where_linux_does_not_tell_each_thread_is_a_core(tmp_path: Path) -> None:
    assert cores_here([0, 1, 2], tmp_path) == 3
    assert cores_here([], tmp_path) == 1


def test_this_machine_has_no_more_cores_than_threads() -> None:
    assert 1 <= cores_here() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpus", "node", "cores"),
    [
        (18, {"ThreadsPerCore": "2"}, 9),
        (18, {}, 18),
        (16, {"CPUTot": "64", "Sockets": "2", "CoresPerSocket": "16", "ThreadsPerCore": "2"}, 8),
        # Slurm was told of as many CPUs as the node has cores.
        (32, {"CPUTot": "32", "Sockets": "2", "CoresPerSocket": "16", "ThreadsPerCore": "2"}, 32),
        (1, {"ThreadsPerCore": "2"}, 1),
        (4, {"ThreadsPerCore": "(null)"}, 4),
        (4, {"ThreadsPerCore": "0", "CPUTot": "0"}, 4),
    ],
)
def test_slurms_cpus_are_counted_as_cores(cpus: int, node: dict[str, str], cores: int) -> None:
    assert cores_of_slurm_node(cpus, node) == cores


def test_an_instance_in_a_slurm_allocation_is_made_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho NodeName=n1 NodeAddr=10.0.0.1 ThreadsPerCore=2\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "18", "SLURM_JOB_NODELIST": "n1,n2"}
    around = surroundings("flux", job)
    assert (around.cores, around.address) == (9, "10.0.0.1")
