"""What the README says of parameters, options and permissions is true, and its commands work."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from tests.eks.sites import eks_site
from tests.kubernetes.apiserver import Server
from tests.readmes import options_named, options_of, parameters_named, run_commands
from tests.support import flux_available

from fluxburst_eks import BurstParameters
from fluxburst_eks.cli import init
from fluxburst_kubernetes.parameters import MiniClusterParameters

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_each_parameter_that_is_not_the_kubernetes_plugins_is_in_the_table_and_no_other() -> None:
    shared = {field.name for field in dataclasses.fields(MiniClusterParameters)}
    own = {field.name for field in dataclasses.fields(BurstParameters)} - shared
    assert parameters_named(TEXT) == sorted(own)


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    assert options_named(TEXT, "## `fluxburst eks init`") == options_of(init)


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
    with eks_site(eks_server, shutil.which("flux") or "") as site:
        site.prices = {"c5.4xlarge": 0.68}
        elsewhere = {
            "FLUXBURST_EKS_ENDPOINT_URL": site.url,
            "FLUXBURST_EKS_AWS_POLL_INTERVAL": "50ms",
        }
        done = run_commands(TEXT, tmp_path, elsewhere)
        assert done.returncode == 0, f"{done.stderr}\n{site.operator.logs()}"
        assert site.left() == []
    assert "1 job selected, 1 assigned, 0 not." in done.stdout
    assert re.search(r" eks +c5\.4xlarge +2 +1 +1\.36 +ready", done.stdout), done.stdout
    last = done.stdout.splitlines()[-1]
    hosts = "burst-c5-4xlarge-0-[0-2],burst-c5-4xlarge-1-[0-2]"
    assert re.fullmatch(rf" +down .*{re.escape(hosts)}", last), last
