"""Parameters, commands and what is imported when: no cluster is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.doctoring import found_by_doctor, wrong_in
from tests.elastic_instance import refusal_of_init
from tests.kubernetes.servers import Script, found, kubeconfig, serving, status
from tests.kubernetes.sites import write_site
from tests.support import flux_available, job

from fluxburst import FluxBurst
from fluxburst.config.file import Config, load
from fluxburst.errors import BurstError, ParameterError
from fluxburst.provider.elastic import load as load_elastic
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst.simulation.recordings import Recording

PREDECESSORS = """
image namespace name cpu_limit memory_limit flux_user log_level wrap broker_toml lead_host lead_port
lead_size munge_key munge_secret_name curve_cert curve_cert_secret_name flux_operator_yaml
isolated_burst
"""

LAZY = """
import sys
from fluxburst.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert not ended.code, ended.code
print({{name for name in ("lightkube", "httpx2", "yaml") if name in sys.modules}})
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [["plugins"], ["params", "kubernetes"], ["kubernetes", "--help"]]
)
def test_no_library_of_kubernetes_is_imported_to_be_told_about(arguments: list[str]) -> None:
    said = python(LAZY.format(arguments=arguments))
    assert said.splitlines()[-1] == "set()"
    assert "kubernetes" in said


def test_importing_the_package_imports_no_library_of_kubernetes() -> None:
    said = python("import sys, fluxburst_kubernetes\nprint('lightkube' in sys.modules)")
    assert said.strip() == "False"


def test_the_predecessors_parameters_have_kept_their_names() -> None:
    said = python(LAZY.format(arguments=["params", "kubernetes"]))
    for name in PREDECESSORS.split():
        assert name in said


def refused(tmp_path: Path, **parameters: Any) -> str:
    """Return what is said of parameters that are wrong."""
    config = Config(plugins={"kubernetes": parameters})
    with pytest.raises(ParameterError) as caught:
        FluxBurst(mock=True, config=config).load("kubernetes")
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("isolated_burst", True, "needs node_types or cpu_limit"),
        ("name", "Burst_0", "not a valid name for a MiniCluster"),
        ("namespace", "My Space", "not a valid name for a namespace"),
        ("cpu_limit", 0, "at least 1"),
        ("price", -1, "0 or more"),
        ("log_level", 8, "from 0"),
        ("flux_user", "flux", "must be a user id"),
        ("lead_port", 70000, "not a TCP port"),
        ("munge_key", "/nowhere/munge.key", "cannot be read"),
        ("broker_toml", "/nowhere/broker.toml", "cannot be read"),
        ("curve_cert", "/nowhere/curve.cert", "cannot read the certificate"),
        ("curve_cert_secret_name", "My_Cert", "not a valid name for a secret"),
        ("munge_secret_name", "", "not a valid name for a secret"),
        ("kubeconfig", "/nowhere/kubeconfig", "cannot be read"),
        ("flux_operator_yaml", "http://example.org/operator.yaml", "an https URL"),
        ("flux_operator_yaml", "/nowhere/operator.yaml", "cannot be read"),
        ("poll_interval", 0, "must be positive and finite"),
    ],
)
def test_a_parameter_that_is_wrong_is_named_with_why(
    tmp_path: Path, field: str, value: Any, said: str
) -> None:
    told = refused(tmp_path, **{field: value})
    assert told.startswith(f"plugin kubernetes: {field} ")
    assert said in told


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("lead_host", "../..", "neither a hostname nor an IPv4 address"),
        ("flux_operator_yaml", "\0", "is not a path"),
        ("request_timeout", 1e30, "must be positive, and 1d at most"),
        ("image", "a b", "is not a reference of a container image"),
    ],
)
def test_what_no_library_would_take_is_refused_before_it_is_used(
    tmp_path: Path, field: str, value: Any, said: str
) -> None:
    written = {"config_dir": str(write_site(tmp_path / "elastic")), field: value}
    wrong = wrong_in(found_by_doctor("kubernetes", written))
    assert f"{field} (from config or environment): " in wrong[0]
    assert said in wrong[0]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    site = str(write_site(tmp_path / "elastic"))
    types = [{"name": "large", "cores": 64}]
    told = refused(tmp_path, config_dir=site, name="other-0", lead_size=3, node_types=types)
    assert "declares no hosts of the MiniClusters 'other-0'" in told
    assert "large has 64 cores and 0 GPUs, but the burst nodes are declared with 4 and 0" in told
    assert "lead_size" in told


def test_a_cluster_that_does_not_answer_now_keeps_no_service_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:9")
    plugins = {"kubernetes": {"kubeconfig": str(config)}}
    plugins["kubernetes"]["config_dir"] = str(write_site(tmp_path / "elastic"))
    client = FluxBurst(mock=True, config=Config(plugins=plugins))
    client.load("kubernetes")
    assert "cannot ask the API server http://127.0.0.1:9" in caplog.text
    with pytest.raises(BurstError, match=r"cannot ask the API server http://127\.0\.0\.1:9"):
        client.plugins["kubernetes"].list_bursts()


def test_a_pass_over_many_jobs_asks_the_cluster_once(tmp_path: Path) -> None:
    script = Script([found({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []})])
    with serving(script) as url:
        written = {
            "kubeconfig": str(kubeconfig(tmp_path / "kubeconfig", url)),
            "config_dir": str(write_site(tmp_path / "elastic")),
            "poll_interval": 60,
        }
        queue = EmbeddedInstance(Recording(tuple(job(number) for number in range(1, 201))))
        client = FluxBurst(queue, config=Config(plugins={"kubernetes": written}))
        client.load("kubernetes")
        plan = client.plan()
    assert len(plan.decisions) == 200
    assert script.asked.count(script.asked[-1]) < 4


def test_doctor_says_what_it_cannot_ask(tmp_path: Path) -> None:
    listed = found({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []})
    forbidden = status(401, "Unauthorized", "Unauthorized")
    with serving(Script([listed, forbidden])) as url:
        written = {
            "kubeconfig": str(kubeconfig(tmp_path / "kubeconfig", url)),
            "config_dir": str(write_site(tmp_path / "elastic")),
        }
        client = FluxBurst(mock=True, config=Config(plugins={"kubernetes": written}))
        client.load("kubernetes")
        (error,) = [one for one in client.plugins["kubernetes"].diagnose() if one.level == "error"]
    assert "does not accept these credentials" in error.what


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_init_declares_the_hosts_of_every_slot_and_says_how_to_go_on(tmp_path: Path) -> None:
    directory = tmp_path / "elastic"
    command = [sys.executable, "-m", "fluxburst", "kubernetes", "init", str(directory)]
    command += ["--clusters=2", "--nodes=3", "--name=night", "--cores=8", "--queue=burst"]
    command += ["--address=10.1.2.3", "--lead-hosts=lead", "--image=example.org/flux:0.88.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "the MiniClusters night-[0-1], each of up to 3 pods of 8 cores" in done.stdout
    elastic = load_elastic(directory)
    assert elastic.burst_hosts == tuple(f"night-{slot}-{n}" for slot in (0, 1) for n in range(3))
    assert (elastic.queue, elastic.address) == ("burst", "10.1.2.3")
    parameters = load(directory / "fluxburst.toml").plugins["kubernetes"]
    assert parameters["image"] == "example.org/flux:0.88.0"
    assert json.dumps(parameters["name"]) == '"night-[0-1]"'
    assert done.stderr == ""
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 2
    assert "replace it with --force" in again.stderr
    here = [*command, "--force", "--address=127.0.0.1"]
    done = subprocess.run(here, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "at 127.0.0.1 each host reaches only itself" in done.stderr) == (
        0,
        True,
    )


def test_doctor_asks_a_server_that_does_not_answer_once(tmp_path: Path) -> None:
    silent = Script([None])
    with serving(silent) as url:
        written = {
            "kubeconfig": str(kubeconfig(tmp_path / "kubeconfig", url)),
            "config_dir": str(write_site(tmp_path / "elastic")),
        }
        wrong = wrong_in(found_by_doctor("kubernetes", written))
    assert len(silent.asked) == 1
    assert "check the connection to its provider" in "\n".join(wrong)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--namespace=Not OK", "--namespace: 'Not OK' is not a valid name for a namespace"),
        ("--image=a b", "--image: 'a b' is not a reference of a container image"),
        ("--name=Burst", "--name: 'Burst-0' is not a valid name for a MiniCluster"),
        ("--lead-hosts= ", "--lead-hosts: ' ' names no host"),
        ("--default-queue=\udcff", "is not a valid queue name"),
        ("--nodes=65536", "--clusters times --nodes: 262144 burst nodes are too many"),
    ],
)
def test_init_refuses_what_the_plugin_would_and_names_the_option(
    tmp_path: Path, option: str, said: str
) -> None:
    assert said in refusal_of_init("kubernetes", tmp_path / "x", "--cores=2", option)
