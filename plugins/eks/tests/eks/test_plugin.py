"""Parameters, machine types, prices, doctor, and what is imported when: no cluster is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.doctoring import found_by_doctor, wrong_in
from tests.eks.instances import plugin_of, write_eks_site
from tests.eks.sites import CLUSTER_ROLE, KEY, NODE_ROLE, Site, query_refusal, refusal
from tests.elastic_instance import refusal_of_init
from tests.kubernetes.servers import Script, serving
from tests.support import flux_available

from fluxburst import FluxBurst
from fluxburst.config.file import Config, load
from fluxburst.errors import ParameterError
from fluxburst.provider.elastic import load as load_elastic
from fluxburst_eks import EksBurst, nodegroups
from fluxburst_eks.diagnosis import NEEDED, resource_arn
from fluxburst_eks.plugin import shipped_table

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "fluxburst_eks"
PREDECESSORS = """
isolated_burst lead_host lead_port lead_size broker_toml creds_from_environ munge_secret_name
munge_key curve_cert_secret_name curve_cert cluster_name machine_type cpu_limit memory_limit image
name namespace flux_operator_yaml log_level flux_user wrap
"""
LAZY = """
import sys
from fluxburst.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert not ended.code, ended.code
print({{name for name in ("boto3", "botocore", "lightkube", "httpx2") if name in sys.modules}})
"""


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["plugins"], ["params", "eks"], ["eks", "--help"]])
def test_no_library_of_aws_is_imported_to_be_told_about(arguments: list[str]) -> None:
    said = python(LAZY.format(arguments=arguments))
    assert said.splitlines()[-1] == "set()"
    assert "eks" in said


def test_importing_the_package_imports_no_library_of_aws() -> None:
    said = python("import sys, fluxburst_eks\nprint({'boto3', 'botocore'} & set(sys.modules))")
    assert said.strip() == "set()"


def test_the_predecessors_parameters_have_kept_their_names() -> None:
    said = python(LAZY.format(arguments=["params", "eks"]))
    for name in PREDECESSORS.split():
        assert name in said


# --- parameters ----------------------------------------------------------------------------------


def refused(**parameters: Any) -> str:
    """Return what is said of parameters that are wrong."""
    table = {"node_role_arn": NODE_ROLE, "live_prices": False, **parameters}
    table = {name: value for name, value in table.items() if value is not None}
    with pytest.raises(ParameterError) as caught:
        FluxBurst(mock=True, config=Config(plugins={"eks": table})).load("eks")
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cluster_name", "my cluster", "not a valid name for an EKS cluster"),
        ("node_role_arn", "nodes", "not the ARN of a role"),
        ("node_role_arn", None, "needed to create node groups"),
        ("cluster_role_arn", "arn:aws:iam::1:role/x", "not the ARN of a role"),
        ("subnets", ["subnet-1", "net-2"], "'net-2' is not the id of a subnet"),
        ("security_groups", ["default"], "not the id of a security group"),
        ("disk_size", 0, "must be positive"),
        ("provider_poll_interval", 0, "must be positive and finite"),
        ("machine_type", "c5.4xlarg", "did you mean 'c5.4xlarge'"),
        ("provisioning", "cheap", "spot, then on-demand"),
        ("name", "Burst_0", "not a valid name for a MiniCluster"),
    ],
)
def test_a_parameter_that_is_wrong_is_named_with_why(field: str, value: Any, said: str) -> None:
    told = refused(**{field: value})
    assert told.startswith("plugin eks: ")
    assert said in told


def test_all_that_a_cluster_needs_is_said_at_once() -> None:
    told = refused(create_cluster=True, subnets=["subnet-1"])
    assert "cluster_role_arn (" in told
    assert "at least two, in two zones" in told


def test_credentials_of_the_environment_alone_are_asked_for_as_the_predecessor_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "so is profile" in refused(creds_from_environ=True, profile="x")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_SECRET_ACCESS_KEY not in the environment" in refused(creds_from_environ=True)


# --- machine types -------------------------------------------------------------------------------


def test_the_table_is_one_of_machines_for_parallel_jobs_that_is_dated() -> None:
    table = shipped_table()
    assert (table.region, table.dated.year >= 2025) == ("us-east-1", True)
    assert 25 <= len(table.by_name) <= 60
    assert table["c5.24xlarge"].cores == 48
    assert table["hpc7g.16xlarge"].cores == 64
    assert (table["p4d.24xlarge"].gpus, table["p4d.24xlarge"].gpu_model) == (8, "NVIDIA A100")
    assert all(one.price for one in table.by_name.values())


def test_the_table_is_in_the_wheel_with_the_policies() -> None:
    names = {path.name for path in PACKAGE.iterdir()}
    assert {"machine_types.toml", "iam-policy.json", "py.typed"} <= names
    assert 'packages = ["src/fluxburst_eks"]' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("machine_type", "gpus", "image"),
    [
        ("c5.4xlarge", 0, "AL2023_x86_64_STANDARD"),
        ("hpc7g.16xlarge", 0, "AL2023_ARM_64_STANDARD"),
        ("c7gn.16xlarge", 0, "AL2023_ARM_64_STANDARD"),
        ("a1.xlarge", 0, "AL2023_ARM_64_STANDARD"),
        ("g5.xlarge", 1, "AL2023_x86_64_NVIDIA"),
        ("g5g.xlarge", 1, "AL2023_ARM_64_NVIDIA"),
        ("u7in-16tb.224xlarge", 0, "AL2023_x86_64_STANDARD"),
    ],
)
def test_nodes_boot_an_image_that_suits_their_machine_type(
    machine_type: str, gpus: int, image: str
) -> None:
    assert nodegroups.ami_type_of(machine_type, gpus) == image


# --- what asks AWS -------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_eks_site(tmp_path / "elastic")


@pytest.fixture
def made() -> Iterator[list[EksBurst]]:
    """Plugins, whose connections are closed."""
    plugins: list[EksBurst] = []
    yield plugins
    for plugin in plugins:
        plugin.aws.close()


def priced(site: Site, directory: Path, **parameters: Any) -> dict[str, float]:
    plugin = plugin_of(site, directory, live_prices=True, **parameters)
    types = {kind.name: kind.price for kind in plugin.node_types()}
    plugin.aws.close()
    return types


@pytest.mark.kubernetes
def test_prices_are_those_of_now_where_aws_tells_them(site: Site, directory: Path) -> None:
    site.prices = {"c5.4xlarge": 0.71}
    assert priced(site, directory) == {"c5.4xlarge": 0.71, "g5.xlarge": 1.006}
    both = priced(site, directory, provisioning="spot, then on-demand")
    assert both["c5.4xlarge"] == 0.71
    assert both["c5.4xlarge-spot"] == 0.00001  # as moto has it
    override = [{"name": "c5.4xlarge", "price": 0.5}]
    assert priced(site, directory, machine_types=override)["c5.4xlarge"] == 0.5


@pytest.mark.kubernetes
def test_prices_are_those_of_the_table_where_aws_does_not_tell_and_it_is_said_once(
    site: Site, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.refuse("GetProducts", refusal(400, "AccessDeniedException", "not you"), 9)
    plugin = plugin_of(site, directory, live_prices=True)
    for _ in range(3):
        assert {k.name: k.price for k in plugin.node_types()}["c5.4xlarge"] == 0.68
    assert len(re.findall("using the table's prices", caplog.text)) == 1
    assert site.asked.count("GetProducts") == 1
    plugin.aws.close()


@pytest.mark.kubernetes
def test_a_spot_machine_of_no_known_price_is_counted_as_one_on_demand(
    site: Site, directory: Path
) -> None:
    plugin = plugin_of(site, directory, provisioning="spot")
    assert {k.name: k.price for k in plugin.node_types()}["c5.4xlarge-spot"] == 0.68
    plugin.aws.close()


# --- doctor --------------------------------------------------------------------------------------


def told(plugin: EksBurst, made: list[EksBurst]) -> list[tuple[str, str]]:
    made.append(plugin)
    return [(one.level, one.what) for one in plugin.provider_findings()]


@pytest.mark.kubernetes
def test_doctor_says_who_this_is_and_that_all_is_permitted(
    site: Site, directory: Path, made: list[EksBurst]
) -> None:
    found = told(plugin_of(site, directory), made)
    assert {level for level, _ in found} == {"ok"}, found
    assert "arn:aws:sts::123456789012:user/moto, in the region us-east-1" in found[0][1]
    assert any("all needed permissions are granted" in what for _, what in found)
    assert not {one for one in site.asked if one.startswith(("Create", "Delete", "Update"))}


@pytest.mark.kubernetes
def test_doctor_names_each_permission_that_is_missing_and_the_policy_that_has_it(
    site: Site, directory: Path, made: list[EksBurst]
) -> None:
    site.denied = {"eks:CreateNodegroup", "iam:PassRole", "eks:CreateCluster"}
    plugin = plugin_of(site, directory)
    made.append(plugin)
    (error,) = [one for one in plugin.provider_findings() if one.level == "error"]
    cluster = "arn:aws:eks:us-east-1:123456789012:cluster/flux-bursted-cluster"
    assert f"eks:CreateNodegroup on {cluster}" in error.what
    assert f"iam:PassRole on {NODE_ROLE}" in error.what
    assert "eks:CreateCluster" not in error.what  # none is to be made
    assert "iam-policy.json" in error.advice


@pytest.mark.kubernetes
def test_doctor_says_what_cannot_be_told(site: Site, directory: Path, made: list[EksBurst]) -> None:
    plugin = plugin_of(site, directory)
    site.refuse("SimulatePrincipalPolicy", query_refusal(403, "AccessDenied", "not you"))
    found = told(plugin, made)
    (warning,) = [what for level, what in found if level == "warning"]
    assert "cannot check permissions" in warning
    site.refuse("GetCallerIdentity", query_refusal(403, "ExpiredToken", "expired"))
    assert told(plugin, made)[0][0] == "error"
    assert KEY not in str(found)


# --- policies ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", ["iam-policy.json", "iam-policy-node-pool.json", "iam-policy-cluster.json"]
)
def test_a_policy_allows_what_doctor_asks_for_on_these_resources_and_no_more(file: str) -> None:
    params: Any = SimpleNamespace(
        cluster_name="CLUSTER",
        node_pool="NODE_POOL" if "node-pool" in file else None,
        node_role_arn="arn:aws:iam::ACCOUNT:role/NODE_ROLE",
        cluster_role_arn="arn:aws:iam::ACCOUNT:role/CLUSTER_ROLE",
    )
    asked = {
        (action, resource_arn(params, one.resource, "REGION", "arn:aws:iam::ACCOUNT:user/x"))
        for one in NEEDED
        for action in one.actions
        if one.file == file
    }
    allowed = {
        (action, resource)
        for statement in json.loads((PACKAGE / file).read_text())["Statement"]
        for action in statement["Action"]
        for resource in [statement["Resource"]]
    }
    assert {action for action, _ in asked} == {action for action, _ in allowed}
    for action, arn in asked:
        patterns = [re.escape(one).replace(r"\*", ".*") for a, one in allowed if a == action]
        assert any(re.fullmatch(pattern, arn) for pattern in patterns), (action, arn)
    assert all(arn != "*" for action, arn in allowed if not action.startswith(("ec2:", "pric")))


def test_what_changes_something_is_allowed_on_what_is_ours_alone() -> None:
    statements = json.loads((PACKAGE / "iam-policy.json").read_text())["Statement"]
    changing = ("Create", "Delete", "Tag", "Untag", "Update", "Pass")
    for statement in statements:
        if any(action.partition(":")[2].startswith(changing) for action in statement["Action"]):
            assert statement["Condition"]


# --- init ----------------------------------------------------------------------------------------


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no live Flux")
def test_init_declares_hosts_with_the_cores_and_gpus_of_their_machine_types(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "elastic"
    command = [sys.executable, "-m", "fluxburst", "eks", "init", str(directory)]
    command += ["--machine-type=c7i.24xlarge=3", "--machine-type=g5.xlarge=1", "--clusters=2"]
    command += ["--lead-cores=2", "--address=10.1.2.3", "--lead-hosts=lead", "--subnet=subnet-1"]
    command += ["--subnet=subnet-2", f"--node-role-arn={NODE_ROLE}", "--region=eu-west-1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    shapes = {shape.name: shape for shape in load_elastic(directory).shapes}
    assert {n: (s.cores, s.gpus) for n, s in shapes.items()} == {
        "c7i.24xlarge": (48, 0),
        "g5.xlarge": (2, 1),
    }
    assert shapes["g5.xlarge"].hosts == ("burst-g5-xlarge-0-0", "burst-g5-xlarge-1-0")
    parameters = load(directory / "fluxburst.toml").plugins["eks"]
    assert parameters["subnets"] == ["subnet-1", "subnet-2"]
    assert (parameters["region"], parameters["node_role_arn"]) == ("eu-west-1", NODE_ROLE)
    assert parameters["name"] == "burst-c7i-24xlarge-[0-1],burst-g5-xlarge-[0-1]"


def test_a_role_of_a_cluster_is_only_asked_for_where_one_is_made() -> None:
    by_file = {one.file for one in NEEDED if one.where(parameters_with(create_cluster=False))}
    assert by_file == {"iam-policy.json"}
    by_file = {one.file for one in NEEDED if one.where(parameters_with(create_cluster=True))}
    assert "iam-policy-cluster.json" in by_file


def parameters_with(**given: Any) -> Any:
    return SimpleNamespace(node_pool=None, live_prices=True, cluster_role_arn=CLUSTER_ROLE, **given)


def test_doctor_asks_aws_that_does_not_answer_once(directory: Path) -> None:
    silent = Script([None])
    with serving(silent) as url:
        parameters = {
            "endpoint_url": url,
            "region": "us-east-1",
            "node_role_arn": "arn:aws:iam::123456789012:role/nodes",
            "config_dir": str(directory),
            "name": "burst-c5-4xlarge-[0-1],burst-g5-xlarge-0",
        }
        wrong = wrong_in(found_by_doctor("eks", parameters))
    assert len(silent.asked) == 1
    assert "check the connection to its provider" in "\n".join(wrong)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--region=mars", "--region: 'mars' is not a region of AWS"),
        ("--node-role-arn=nodes", "--node-role-arn: 'nodes' is not the ARN of a role"),
        ("--subnet=10.0.0.0/16", "--subnet: '10.0.0.0/16' is not the id of a subnet"),
        ("--cluster-name=", "--cluster-name: '' is not a valid name for an EKS cluster"),
        ("--namespace=", "--namespace: '' is not a valid name for a namespace"),
    ],
)
def test_init_refuses_what_the_plugin_would_and_names_the_option(
    tmp_path: Path, option: str, said: str
) -> None:
    assert said in refusal_of_init("eks", tmp_path / "x", "--lead-cores=2", option)


def test_doctor_says_where_credentials_are_looked_for_if_there_are_none(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    parameters = {
        "region": "us-east-1",
        "node_role_arn": "arn:aws:iam::123456789012:role/nodes",
        "config_dir": str(directory),
        "name": "burst-c5-4xlarge-[0-1],burst-g5-xlarge-0",
    }
    (said,) = wrong_in(found_by_doctor("eks", parameters))
    for where in ("AWS_ACCESS_KEY_ID", "profile", "role of this container or instance"):
        assert where in said
