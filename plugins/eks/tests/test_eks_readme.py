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
from eks_site import eks_site
from growing_pods import outside
from support import flux_available

from fluxburst_eks import BurstParameters
from fluxburst_eks.cli import init
from fluxburst_kubernetes.parameters import MiniClusterParameters

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def first_cells(after: str) -> str:
    """Return the first cells of the first table after a text."""
    table = re.search(r"^\|.*?\n\n", TEXT.partition(after)[2], re.MULTILINE | re.DOTALL)
    assert table is not None
    return " ".join(line.split("|")[1] for line in table[0].splitlines()[2:] if line)


def test_each_parameter_that_is_not_the_kubernetes_plugins_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(\w+)`", first_cells("## Parameters"))
    shared = {field.name for field in dataclasses.fields(MiniClusterParameters)}
    own = {field.name for field in dataclasses.fields(BurstParameters)} - shared
    assert sorted(named) == sorted(own)


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"`(--[\w-]+)`", first_cells("## `fluxburst eks init`"))
    own = [p for p in init.params if isinstance(p, click.Option) and not p.hidden]
    assert sorted(named) == sorted(option.opts[0] for option in own)


def test_the_policies_that_it_names_are_there() -> None:
    files = re.findall(r"\(src/fluxburst_eks/([\w.-]+)\)", TEXT)
    assert len(set(files)) == 4
    for name in files:
        assert (ROOT / "src" / "fluxburst_eks" / name).is_file()


@pytest.mark.flux
@pytest.mark.kubernetes
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_commands_of_the_readme_work_as_they_stand_and_leave_nothing(
    eks_server: Server, tmp_path: Path
) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (commands,) = [block for block in blocks if "eks init" in block]
    here = f"--address 127.0.0.1 --port {free_port()}"
    commands = commands.replace("--address lead.example.org", here)
    with eks_site(eks_server, shutil.which("flux") or "") as site:
        site.prices = {"c5.4xlarge": 0.68}
        environment = {
            **outside(),
            "FLUXBURST_EKS_ENDPOINT_URL": site.url,
            "FLUXBURST_EKS_AWS_POLL_INTERVAL": "50ms",
        }
        done = subprocess.run(
            ["sh", "-ec", commands],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert done.returncode == 0, f"{done.stderr}\n{site.operator.logs()}"
        assert site.left() == []
    assert "1 jobs selected, 1 given, 0 not." in done.stdout
    assert re.search(r" eks +c5\.4xlarge +2 +1 +1\.36 +ready", done.stdout), done.stdout
    last = done.stdout.splitlines()[-1]
    hosts = "burst-c5-4xlarge-0-[0-2],burst-c5-4xlarge-1-[0-2]"
    assert re.fullmatch(rf" +down .*{re.escape(hosts)}", last), last
