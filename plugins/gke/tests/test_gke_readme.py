"""What the README says of parameters, options and permissions is true, and its commands work."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from apiserver import Server, free_port
from gke_site import gke_site
from growing_pods import outside
from support import flux_available

from fluxburst_gke import BurstParameters
from fluxburst_gke.cli import gke as group
from fluxburst_kubernetes.parameters import MiniClusterParameters

TEXT = (Path(__file__).parents[1] / "README.md").read_text()


def first_cells(after: str) -> str:
    """Return the first cells of the first table after a text."""
    table = re.search(r"^\|.*?\n\n", TEXT.partition(after)[2], re.MULTILINE | re.DOTALL)
    assert table is not None
    return " ".join(line.split("|")[1] for line in table[0].splitlines()[2:] if line)


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(\w+)`", first_cells("## Parameters"))
    shared = {field.name for field in dataclasses.fields(MiniClusterParameters)}
    own = {field.name for field in dataclasses.fields(BurstParameters)} - shared
    assert sorted(named) == sorted(own)


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(--[\w-]+)`", first_cells("## Options of init"))
    options = [p for p in group.commands["init"].params if isinstance(p, click.Option)]
    assert sorted(named) == sorted(one.opts[0] for one in options if not one.hidden)


@pytest.mark.flux
@pytest.mark.kubernetes
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_commands_of_the_readme_work_as_they_stand_and_leave_nothing(
    server: Server, tmp_path: Path
) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (commands,) = [block for block in blocks if "gke init" in block]
    here = f"--address 127.0.0.1 --port {free_port()}"
    commands = commands.replace("--address lead.example.org", here)
    with gke_site(server, tmp_path / "site", shutil.which("flux") or "") as site:
        elsewhere = ("endpoint", "compute_endpoint", "operation_interval")
        played = {f"FLUXBURST_GKE_{n.upper()}": str(site.parameters[n]) for n in elsewhere}
        done = subprocess.run(
            ["sh", "-ec", commands],
            env={**outside(), **site.environment, **played},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, f"{done.stderr}\n{site.operator.logs()}"
        assert site.left() == []
    assert "1 jobs selected, 1 given, 0 not." in done.stdout
    assert " ready " in done.stdout
    assert "c2-standard-8" in done.stdout
