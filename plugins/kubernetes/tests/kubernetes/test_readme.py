"""What the README says of parameters, options and permissions is true, and its commands work."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
import yaml
from tests.kubernetes.apiserver import Server
from tests.kubernetes.flux_operator import flux_operator
from tests.readmes import options_named, options_of, parameters_named, run_commands
from tests.support import flux_available

from fluxburst_kubernetes import BurstParameters
from fluxburst_kubernetes.cli import init
from fluxburst_kubernetes.diagnosis import NEEDED, READ_LOGS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_each_parameter_is_in_the_table_and_no_other() -> None:
    fields = dataclasses.fields(BurstParameters)
    assert parameters_named(TEXT) == sorted(field.name for field in fields)


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_each_option_of_init_is_in_the_table_and_no_other() -> None:
    assert options_named(TEXT, "## Slots") == options_of(init)


def test_rbac_yaml_gives_what_doctor_asks_for_and_no_more() -> None:
    documents = yaml.safe_load_all(
        (ROOT / "src" / "fluxburst_kubernetes" / "rbac.yaml").read_text()
    )
    (role,) = [document for document in documents if document["kind"] == "Role"]
    given = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = (*NEEDED, READ_LOGS)
    assert given == {(one.kind.group, one.resource, one.verb) for one in needed}


@pytest.mark.flux
@pytest.mark.kubernetes
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_the_commands_of_the_readme_work_as_they_stand_and_leave_nothing(
    server: Server, tmp_path: Path
) -> None:
    with flux_operator(server.api, shutil.which("flux") or "") as operator:
        done = run_commands(TEXT, tmp_path, {"KUBECONFIG": str(server.kubeconfig)})
        assert done.returncode == 0, f"{done.stderr}\n{operator.logs()}"
        assert operator.brokers == {}
    assert "1 job selected, 1 assigned, 0 not." in done.stdout
    assert " ready " in done.stdout
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(r" +down burst +6 +12 +0 burst-0-\[0-2\],burst-1-\[0-2\]", last), last
    for path in ("flux-framework.org/v1alpha2/miniclusters", "batch/v1/jobs"):
        found = server.api.items(f"/apis/{path}")
        assert [one for one in found if one["metadata"]["namespace"] == "flux-operator"] == []
