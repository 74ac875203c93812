"""Parameters, commands and what is imported when: neither Google nor a cluster is needed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.elastic_instance import refusal_of_init
from tests.support import flux_available

from fluxburst.config.file import load
from fluxburst.provider.elastic import load as load_elastic
from fluxburst_gke import BurstParameters
from fluxburst_gke.diagnosis import FOR_A_CLUSTER, FOR_AN_EXISTING_POOL, NEEDED

ROOT = Path(__file__).parents[4]
PACKAGE = Path(__file__).parents[2] / "src" / "fluxburst_gke"
WHEELS = [ROOT, *(ROOT / "plugins" / name for name in ("google", "kubernetes", "gke"))]

PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]

PREDECESSORS = """
project cluster_name machine_type cpu_limit memory_limit image name namespace flux_operator_yaml
log_level flux_user wrap isolated_burst lead_host lead_port lead_size broker_toml munge_secret_name
munge_key curve_cert_secret_name curve_cert
"""

LAZY = """
import sys
from fluxburst.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = ("google", "grpc", "lightkube", "httpx2", "requests")
print({{name for name in heavy if name in sys.modules}})
"""


def python(code: str, executable: str = sys.executable) -> str:
    done = subprocess.run(
        [executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["plugins"], ["params", "gke"], ["gke", "init", "--help"]])
def test_no_library_of_google_is_imported_to_be_told_about(arguments: list[str]) -> None:
    said = python(LAZY.format(arguments=arguments))
    assert said.splitlines()[-1] == "set()"
    assert "gke" in said


def test_importing_the_package_imports_no_library_of_google() -> None:
    said = python("import sys, fluxburst_gke\nprint({'google', 'grpc'} & sys.modules.keys())")
    assert said.strip() == "set()"


def test_the_predecessors_parameters_have_kept_their_names() -> None:
    names = {field.name for field in dataclasses.fields(BurstParameters)}
    assert set(PREDECESSORS.split()) <= names


def test_each_parameter_has_help() -> None:
    assert all(field.metadata.get("help") for field in dataclasses.fields(BurstParameters))


def test_role_yaml_gives_what_doctor_asks_for_and_no_more() -> None:
    role = yaml.safe_load((PACKAGE / "role.yaml").read_text())
    asked = {*NEEDED, *FOR_A_CLUSTER, *FOR_AN_EXISTING_POOL}
    assert set(role["includedPermissions"]) == asked


def fluxburst(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run fluxburst's command line."""
    command = [sys.executable, "-m", "fluxburst", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_machine_type_that_there_is_not_is_no_traceback(tmp_path: Path) -> None:
    options = ["--lead-cores=2", "--machine-type=c2-standart-8=2"]
    said = refusal_of_init("gke", tmp_path / "x", *options)
    assert "did you mean 'c2-standard-8'?" in said


@pytest.mark.parametrize("text", ["c2-standard-8", "c2-standard-8=0", "c2-standard-8=x", "=3"])
def test_a_number_of_hosts_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    options = ["--lead-cores=2", f"--machine-type={text}"]
    assert "expected NAME=COUNT" in refusal_of_init("gke", tmp_path / "x", *options)


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_init_declares_hosts_of_each_machine_type_and_flux_takes_it(tmp_path: Path) -> None:
    directory = tmp_path / "elastic"
    types = ["--machine-type=c2-standard-8=3", "--machine-type=c2-standard-60=2"]
    where = [
        "--project=a-project",
        "--location=europe-west4-a",
        "--address=127.0.0.1",
        "--port=18050",
    ]
    done = fluxburst("gke", "init", str(directory), "--lead-cores=2", *types, *where)
    assert done.returncode == 0, done.stderr
    elastic = load_elastic(directory)
    assert [(one.name, one.cores, len(one.hosts)) for one in elastic.shapes] == [
        ("c2-standard-8", 4, 6),
        ("c2-standard-60", 30, 4),
    ]
    assert "burst-c2-standard-60-1-1" in elastic.burst_hosts
    table = load(directory / "fluxburst.toml").plugins["gke"]
    assert table["name"] == "burst-c2-standard-8-[0-1],burst-c2-standard-60-[0-1]"
    assert (table["project"], table["location"]) == ("a-project", "europe-west4-a")
    assert "c2-standard-60: 30 cores" in done.stdout


def built_wheels(directory: Path) -> Path:
    """Return where wheels of this checkout are: those of ``nox``, or built there."""
    if "BUILT_WHEELS" in os.environ:
        return Path(os.environ["BUILT_WHEELS"])
    build = ["wheel", "--no-deps", "--wheel-dir", str(directory), *map(str, WHEELS)]
    subprocess.run([sys.executable, *PIP, *build], check=True, timeout=300)
    return directory


@pytest.mark.long
def test_the_wheel_alone_brings_the_plugin_along(tmp_path: Path) -> None:
    wheels, venv = built_wheels(tmp_path / "wheels"), tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    inside = str(venv / "bin" / "python")
    # Found by name beside these wheels, so that no distribution of that name elsewhere is taken.
    (gke,) = wheels.glob("fluxburst_gke-*.whl")
    install = [inside, *PIP, "install", "--no-compile", "--find-links", str(wheels), str(gke)]
    subprocess.run(install, check=True, timeout=600)
    for arguments in (["plugins"], ["params", "gke"]):
        said = python(LAZY.format(arguments=arguments), inside)
        assert said.splitlines()[-1] == "set()"
        assert "gke" in said
    held = "import importlib.resources as r; print(r.files('fluxburst_gke').joinpath('role.yaml'"
    assert python(f"{held}).is_file())", inside).strip() == "True"


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--namespace=Not OK", "--namespace: 'Not OK' is not a valid name for a namespace"),
        ("--cluster-name=_", "--cluster-name: '_' is not a valid name for a cluster"),
        ("--project=My Project", "--project: 'My Project' is not a valid project id"),
        ("--location=mars", "--location: 'mars' is neither a zone nor a region"),
        ("--image=", "--image: '' is not a reference of a container image"),
        ("--name=Burst", "--name: 'Burst-c2-standard-8-0' is not a valid name for a MiniCluster"),
        ("--machine-type=c2-standard-8=1000000000", "1000000000 burst nodes are too many"),
        ("--machine-type=c2-standard-8=40000", "80000 burst nodes are too many"),
    ],
)
def test_init_refuses_what_the_plugin_would_and_names_the_option(
    tmp_path: Path, option: str, said: str
) -> None:
    assert said in refusal_of_init("gke", tmp_path / "x", "--lead-cores=2", option)
