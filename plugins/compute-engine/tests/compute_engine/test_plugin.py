"""The package: what it offers, imports, refuses and finds, and the command that declares hosts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.compute_engine.fake_compute import FAMILY, Site
from tests.compute_engine.sites import SMALL, client_of, plugin_of, write_elastic
from tests.doctoring import found_by_doctor, wrong_in
from tests.elastic_instance import command_line, free_port, refusal_of_init
from tests.support import flux_available

from fluxburst import FluxBurst
from fluxburst.config.file import Config
from fluxburst.config.parameters import describe
from fluxburst.errors import ParameterError
from fluxburst.plugin.base import Finding
from fluxburst.provider.elastic import load
from fluxburst_compute_engine import BurstParameters

KEPT = """
project network_name region zone isolated_burst lead_host lead_port curve_cert munge_key
compute_scopes compute_machine_type compute_family compute_compact log_level flux_user wrap
"""

LAZY = """
import sys
from fluxburst.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert not ended.code, ended.code
print({{name for name in ("google.auth", "google.cloud", "requests") if name in sys.modules}})
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [["plugins"], ["params", "compute_engine"], ["compute-engine", "--help"]]
)
def test_no_library_of_googles_is_imported_to_be_told_about(arguments: list[str]) -> None:
    said = python(LAZY.format(arguments=arguments))
    assert said.splitlines()[-1] == "set()"
    assert "compute" in said


def test_importing_the_package_imports_no_library_of_googles() -> None:
    said = python(
        "import sys, fluxburst_compute_engine\n"
        "print([n for n in sys.modules if n == 'google' or n.startswith('google.')])"
    )
    assert said.strip() == "[]"


def test_the_predecessors_parameters_can_still_be_set_by_their_names() -> None:
    described = describe("compute_engine", BurstParameters)
    read = {variable for value in described for variable in value.environment}
    assert read >= {f"FLUXBURST_COMPUTE_ENGINE_{name.upper()}" for name in KEPT.split()}


def refused(site: Site, elastic: Path, **parameters: Any) -> str:
    """Return what is said of parameters that are wrong."""
    with pytest.raises(ParameterError) as caught:
        client_of(site, elastic, **parameters)
    return str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"isolated_burst": "maybe"}, "expected true or false, got 'maybe'"),
        ({"project": "No Project"}, "project (from config or environment): 'No Project' is not"),
        ({"zone": "us-east1-b"}, "us-east1-b is not in the region us-central1"),
        ({"zones": ["us-east1-b"]}, "us-east1-b is not in the region us-central1"),
        ({"zone": "us-central1-a", "zones": ["us-central1-b"]}, "not both"),
        ({"machine_type": "c2-standard-9"}, "did you mean 'c2-standard-"),
        ({"machine_type": "n2-standard-8"}, "declares no hosts of the machine type"),
        ({"machine_types": [{"name": "mine"}]}, "so it needs memory, price"),
        ({"machine_types": [{"name": SMALL, "vcpus": 16}]}, "declares it with 4 and 0"),
        ({"provisioning": "free"}, "expected one of on-demand, spot"),
        ({"min_count": 0}, "must be at least 1"),
        ({"disk_size": 1}, "must be at least 10"),
        ({"munge_key": "/absent"}, "/absent cannot be read"),
        ({"flux_user": "A B"}, "is not a valid user name"),
        ({"log_level": 8}, "must be from 0"),
        ({"lead_port": 0}, "is not a TCP port"),
        ({"lead_host": "../.."}, "lead_host (from config or environment): '../..' is neither"),
        ({"image": "/etc"}, "'/etc' is neither a name for an image nor a path"),
        ({"endpoint": "ä\n☃"}, "is not a URL or a host"),
        (
            {"request_timeout": 1e30},
            "request_timeout (from config or environment): must be positive",
        ),
        ({"munge_key": "\0"}, "expected path, got"),
        ({"network_tags": ["Not OK"]}, "is not a name for a network tag"),
        ({"compute_familly": "x"}, "did you mean 'compute_family'"),
    ],
)
def test_parameters_that_cannot_be_are_refused(
    site: Site, elastic: Path, parameters: dict[str, Any], said: str
) -> None:
    assert said in refused(site, elastic, **parameters)


def test_all_that_is_wrong_is_said_at_once(site: Site, elastic: Path) -> None:
    said = refused(site, elastic, log_level=8, min_count=0)
    assert "log_level" in said
    assert "min_count" in said


def test_nothing_is_asked_of_google_when_it_is_loaded(site: Site, elastic: Path) -> None:
    client_of(site, elastic)
    assert site.requests == []


def test_without_an_elastic_instance_init_is_named(site: Site) -> None:
    config = Config(plugins={"compute_engine": site.parameters})
    client = FluxBurst(mock=True, config=config)
    client.load("compute_engine")
    said = str(client.plan().decisions)
    assert "config_dir is not set" in said
    assert "use fluxburst compute-engine init" in said


# --- doctor --------------------------------------------------------------------------------------


def found(site: Site, elastic: Path, **parameters: Any) -> list[Finding]:
    return list(plugin_of(site, elastic, **parameters).diagnose())


def test_doctor_says_who_asks_what_is_permitted_and_what_machines_cost(
    site: Site, elastic: Path
) -> None:
    findings = found(site, elastic)
    said = [finding.what for finding in findings if finding.level == "ok"]
    assert any("service account burst@test-project" in one for one in said)
    assert "all needed permissions are granted in the project test-project" in said
    assert any(f"{FAMILY}-v20260801" in one for one in said)
    assert "zones, in order: us-central1-a, us-central1-b, us-central1-c" in said
    assert any("4 nodes of c2-standard-8" in one and "2026-08-20" in one for one in said)
    assert {call for call in site.requests if "insert" in call.lower()} == set()


def test_doctor_names_the_permissions_that_are_missing(site: Site, elastic: Path) -> None:
    site.denied = {"compute.instances.create", "compute.disks.create"}
    (error,) = [one for one in found(site, elastic) if one.level == "error"]
    assert "missing permissions" in error.what
    assert "compute.disks.create, compute.instances.create" in error.what
    assert "role.yaml" in error.advice


def test_doctor_asks_for_what_parameters_need_besides(site: Site, elastic: Path) -> None:
    site.denied = {"compute.resourcePolicies.create"}
    assert all(finding.level != "error" for finding in found(site, elastic))
    errors = [
        one.what for one in found(site, elastic, compact_placement=True) if one.level == "error"
    ]
    assert errors == [
        "missing permissions in the project test-project: compute.resourcePolicies.create"
    ]


def test_doctor_says_what_it_cannot_tell(site: Site, elastic: Path) -> None:
    site.fail("testIamPermissions", 403, "accessNotConfigured", "API has not been used")
    warnings = [one for one in found(site, elastic) if one.level == "warning"]
    assert any("Cloud Resource Manager API" in one.advice for one in warnings)


def test_doctor_says_which_image_is_missing(site: Site, elastic: Path) -> None:
    errors = [one for one in found(site, elastic, compute_family="absent") if one.level == "error"]
    assert any("images/family/absent" in one.what for one in errors)


def test_doctor_says_that_there_are_no_credentials(
    site: Site, elastic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(elastic / "absent"))
    errors = [one.what for one in found(site, elastic) if one.level == "error"]
    assert any("there are no Google credentials" in one for one in errors)


def test_doctor_warns_of_a_lead_at_an_address_of_loopback(site: Site, tmp_path: Path) -> None:
    directory = write_elastic(tmp_path / "elastic")
    findings = found(site, directory, lead_host="127.0.0.1", lead_port=free_port())
    warnings = [one.what for one in findings if one.level == "warning"]
    assert any("which is themselves" in one for one in warnings)
    assert any("nothing answers at 127.0.0.1" in one for one in warnings)


# --- init ----------------------------------------------------------------------------------------

needs_flux = pytest.mark.skipif(not flux_available(), reason="no live Flux")


@pytest.mark.flux
@needs_flux
def test_init_declares_hosts_of_each_machine_type(site: Site, tmp_path: Path) -> None:
    directory = tmp_path / "elastic"
    done = command_line(
        "compute-engine",
        "init",
        str(directory),
        "--machine-type=c2-standard-8=2",
        "--machine-type=a2-highgpu-1g=1",
        "--prefix=lab",
        "--lead-cores=2",
        "--address=127.0.0.1",
        f"--port={free_port()}",
        "--project=some-project",
    )
    assert done.returncode == 0, done.stderr
    assert "2 × c2-standard-8: 4 cores, 0.417616 an hour" in done.stdout
    assert "1 × a2-highgpu-1g: 6 cores, 1 GPU" in done.stdout
    elastic = load(directory)
    assert elastic.burst_hosts == (
        "lab-c2-standard-8-0",
        "lab-c2-standard-8-1",
        "lab-a2-highgpu-1g-0",
    )
    assert [(s.name, s.cores, s.gpus) for s in elastic.shapes] == [
        ("c2-standard-8", 4, 0),
        ("a2-highgpu-1g", 6, 1),
    ]
    kinds = plugin_of(site, directory).node_types()
    assert [(kind.name, kind.max_nodes) for kind in kinds] == [
        ("c2-standard-8", 2),
        ("a2-highgpu-1g", 1),
    ]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--machine-type=c2-standard-8", "expected NAME=COUNT, such as c2-standard-8=4"),
        ("--machine-type=c2-standard-8=0", "expected NAME=COUNT"),
        ("--machine-type=c2-standard-8=²", "expected NAME=COUNT"),
        ("--machine-type=c2-standard-8=1000000000", "1000000000 burst nodes are too many"),
        (f"--machine-type=c2-standard-8={'9' * 5000}", "burst nodes are too many"),
        ("--machine-type=c9-standard-8=1", "unknown machine type 'c9-standard-8'"),
        (f"--prefix={'x' * 60}", "is not a name for a machine of Compute Engine"),
        ("--prefix=Lab", "--prefix: 'Lab-c2-standard-8-3' is not a name for"),
        ("--project=My Project", "--project: 'My Project' is not a valid project id"),
        ("--region=mars", "--region: 'mars' is not a region of Google Cloud"),
        ("--network=", "--network: '' is not a name for a network"),
        ("--family=a\nb", "--family: 'a\\nb' is not a name for a family of images"),
    ],
)
def test_init_refuses_what_the_plugin_would_and_names_the_option(
    site: Site, tmp_path: Path, option: str, said: str
) -> None:
    assert said in refusal_of_init("compute-engine", tmp_path / "x", "--lead-cores=1", option)


def test_doctor_asks_google_that_is_away_once(site: Site, elastic: Path) -> None:
    call = "instances.aggregatedList"
    site.fail(call, 503, "backendError", "try later", times=99, headers={"Retry-After": "0"})
    parameters = {**site.parameters, "config_dir": str(elastic)}
    wrong = wrong_in(found_by_doctor("compute_engine", parameters))
    assert site.requests == [call]
    assert "check the connection to its provider" in "\n".join(wrong)


def test_doctor_sums_up_many_prices_and_says_where_the_output_of_jobs_goes(
    site: Site, elastic: Path, tmp_path: Path
) -> None:
    mine = {"name": "mine", "vcpus": 2, "threads_per_core": 1, "memory": "4GiB", "price": 0.01}
    parameters = {**site.parameters, "isolated_burst": True, "machine_types": [mine]}
    where = tmp_path / "file"
    where.write_text("")
    found = found_by_doctor("compute_engine", {**parameters, "output_dir": str(where / "below")})
    (prices,) = [one.what for one in found if " an hour" in one.what]
    assert "from 0.01 (mine) to 88.49 (a3-highgpu-8g) an hour; mine as set by the param" in prices
    assert f"cannot keep the output of jobs: {where} is a file" in "\n".join(wrong_in(found))


@pytest.mark.parametrize("content", ["{", '{"type": "service_account"}', None])
def test_credentials_that_cannot_be_read_are_said_in_words(
    site: Site, elastic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "key.json"
    if content is None:
        file.mkdir()
    else:
        file.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    parameters = {**site.parameters, "config_dir": str(elastic)}
    said = "\n".join(wrong_in(found_by_doctor("compute_engine", parameters)))
    assert f"{file}" in said
    assert "run gcloud auth application-default login" in said
    assert "Error(" not in said
