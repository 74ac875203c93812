"""What is asked of the API server, as plain data."""

from __future__ import annotations

import json
import os
import re
import shutil
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kubernetes.sites import CERTIFICATE, SECRET_KEY, burst

from fluxburst import Burst, ByteSize
from fluxburst.errors import RequestError
from fluxburst.provider.elastic import Elastic, instance_tag
from fluxburst_kubernetes import isolated, labels, manifests
from fluxburst_kubernetes.manifests import Shape, broker_config, in_here_document, minicluster
from fluxburst_kubernetes.slots import choose, declared_slots, slot_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
"""As https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ has it."""

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
slot_texts = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
ELASTIC = Elastic(("lead",), ("burst-0-0", "burst-0-1"), cores=4, address="10.0.0.1", port=8060)


def made(asked: Burst, slot: str = "burst-0", **options: object) -> dict[str, object]:
    given: dict[str, object] = {"tag": "0" * 16, "instance_name": "lead:/tmp/x", "config": ""}
    given |= {"curve_secret": "curve-cert", **options}
    return minicluster(slot, asked, Shape("example.org/flux"), **given)  # type: ignore[arg-type]


# --- labels --------------------------------------------------------------------------------------


@given(names)
def test_any_text_becomes_a_label_that_the_server_takes(text: str) -> None:
    value = labels.label_value(text)
    assert LABEL_VALUE.fullmatch(value)
    assert 0 < len(value) <= 63


@given(names, names)
def test_two_texts_are_two_labels(one: str, other: str) -> None:
    assert (labels.label_value(one) == labels.label_value(other)) == (one == other)


@given(
    names,
    names,
    slot_texts,
    st.integers(1, 5000),
    st.lists(st.integers(0, 2**63)),
    st.floats(0, 1e6),
    st.none() | st.integers(0, 2**40).map(lambda n: n / 8),
)
def test_a_minicluster_says_all_of_its_burst(
    name: str,
    node_type: str,
    slot: str,
    nodes: int,
    jobs: list[int],
    price: float,
    until: float | None,
) -> None:
    hosts = tuple(f"{slot}-{index}" for index in range(nodes))
    asked = Burst(
        name,
        "kubernetes",
        node_type,
        nodes,
        tuple(jobs),
        hostnames=hosts,
        price=price,
        lease_until=until,
    )
    told = labels.read(json.loads(json.dumps(made(asked, slot))))
    assert (told.name, told.node_type, told.hostnames) == (name, node_type, hosts)
    assert (told.price, told.jobs, told.lease_until) == (price, tuple(jobs), until)


@pytest.mark.parametrize("spoilt", ["", "burst-0-[0-", "else"])
def test_a_minicluster_that_somebody_has_edited_is_read_as_far_as_it_goes(spoilt: str) -> None:
    written = json.loads(json.dumps(made(burst(hostnames=("burst-0-0", "burst-0-1")))))
    written["metadata"]["annotations"] = {
        labels.HOSTNAMES: spoilt,
        labels.PRICE: "much",
        labels.JOBS: "1,x",
    }
    told = labels.read(written)
    assert (told.name, told.hostnames) == (burst().name, ("burst-0-0", "burst-0-1"))
    assert (told.price, told.jobs, told.lease_until) == (0.0, (1,), None)


def test_an_instance_is_told_by_its_public_key_alone() -> None:
    def certificate(key: str, secret: str) -> bytes:
        return CERTIFICATE.format(key=key, secret=secret).encode()

    one = instance_tag(certificate("one", SECRET_KEY))
    assert one == instance_tag(certificate("one", "another"))
    assert one != instance_tag(certificate("two", SECRET_KEY))
    assert LABEL_VALUE.fullmatch(one)


# --- miniclusters --------------------------------------------------------------------------------


def test_pods_carry_the_labels_of_their_burst_and_what_they_are_limited_to() -> None:
    shape = Shape(
        "i", cpus=4, memory=ByteSize(2**30), gpus=2, user=1000, wrap="strace", log_level=3
    )
    asked = replace(burst(), hostnames=("burst-0-0", "burst-0-1"))
    spec = minicluster(
        "burst-0",
        asked,
        shape,
        tag="t",
        instance_name="n",
        config="",
        curve_secret="s",
        munge_secret="m",
        deadline=60,
    )["spec"]
    (container,) = spec["containers"]
    limits = {"cpu": "4", "memory": "1073741824", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"limits": limits, "requests": limits}
    assert container["securityContext"] == {"runAsUser": 1000}
    assert spec["pod"]["labels"] == spec["jobLabels"] == labels.burst_labels("t", asked)
    assert (spec["size"], spec["deadlineSeconds"]) == (2, 60)
    assert (spec["flux"]["wrap"], spec["flux"]["logLevel"]) == ("strace", 3)
    assert spec["flux"]["mungeSecret"] == "m"
    assert spec["flux"]["container"] == {"disable": True}


def test_no_secret_is_in_a_minicluster() -> None:
    text = json.dumps(made(burst(), config=broker_config(ELASTIC, None, None)))
    assert "secret-key" not in text


def test_pods_reach_the_lead_where_they_are_told_to() -> None:
    config = tomllib.loads(broker_config(ELASTIC, "lead.example.org", 30093))
    lead, others = config["bootstrap"]["hosts"]
    assert lead["connect"] == "tcp://lead.example.org:30093"
    assert others["host"] == "burst-0-[0-1]"
    assert config["bootstrap"]["curve_cert"] == f"{manifests.POD_PATH}/curve.cert"
    assert config["resource"]["path"] == f"{manifests.POD_PATH}/R"
    declared = tomllib.loads(broker_config(ELASTIC, None, None))
    assert declared["bootstrap"]["hosts"][0]["connect"] == "tcp://10.0.0.1:8060"


@given(st.text(string.printable.replace("\r", "").replace("\x0b", "").replace("\x0c", "")))
def test_a_configuration_survives_the_here_document_that_it_is_written_by(text: str) -> None:
    script = f"cat <<END_OF_IT\n{in_here_document(text)}\nEND_OF_IT\n"
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == f"{text}\n"


# --- slots ---------------------------------------------------------------------------------------


@given(slot_texts, st.integers(1, 20), st.integers(1, 20))
def test_the_hosts_of_a_slot_are_the_declared_ones_without_a_gap(
    name: str, count: int, gap: int
) -> None:
    hosts = [f"{name}-{index}" for index in range(count) if index != gap]
    (slot,) = declared_slots([name], hosts)
    assert slot.hosts == tuple(hosts[:gap])


@given(st.lists(st.integers(1, 8), max_size=6), st.integers(1, 9))
def test_the_smallest_slot_that_is_large_enough_is_chosen(sizes: list[int], nodes: int) -> None:
    hosts = [f"s{n}-{index}" for n, size in enumerate(sizes) for index in range(size)]
    slots = declared_slots([f"s{n}" for n in range(len(sizes))], hosts)
    chosen = choose(slots, nodes)
    fitting = [size for size in sizes if size >= nodes]
    assert (len(chosen.hosts) if chosen else None) == min(fitting, default=None)


@pytest.mark.parametrize(
    "text", ["", "Burst", "burst_0", "-x", "x-", "0burst", "a" * 51, "x,x", "burst-[0-", "ö"]
)
def test_a_name_that_no_minicluster_can_have_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        slot_names(text)


FLUX = """#!/bin/sh
case "$1 $2" in
"python -c") shift && exec "$PYTHON" "$@" ;;
"job submit") cat >"$SUBMITTED" && echo f1 ;;
"job attach") exit 3 ;;
esac
"""


def test_a_job_has_the_environment_of_its_pod_and_what_it_takes_along(tmp_path: Path) -> None:
    text = Path(isolated.__file__).with_name("run_isolated.sh").read_text()
    for path in ("/mnt/flux/config", "/etc/fluxburst", "/dev/termination-log"):
        text = text.replace(path, f"{tmp_path}{path}")
    for folder in ("mnt/flux/config", "etc/fluxburst", "dev", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    spec = {"attributes": {"system": {"environment": {"COLOR": "own"}, "duration": 5}}, "tasks": []}
    (tmp_path / "etc/fluxburst/jobspec.json").write_text(json.dumps(spec))
    (tmp_path / "bin/flux").write_text(FLUX)
    (tmp_path / "bin/flux").chmod(0o755)
    image = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "COLOR": "image", "LANG": "C\udce9"}
    here = {"FLUX_URI": "local:///x", "HOSTNAME": "pod-0", "PYTHON": sys.executable}
    here["SUBMITTED"] = str(tmp_path / "submitted")
    done = subprocess.run(["sh", "-c", text], env={**image, **here}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "dev/termination-log").read_text() == "exit-code 3"
    system = json.loads((tmp_path / "submitted").read_text())["attributes"]["system"]
    assert system["duration"] == 5
    environment = system["environment"]
    assert (environment["PATH"], environment["COLOR"]) == (image["PATH"], "own")
    assert environment["LANG"] == "C"
    assert not {"FLUX_URI", "HOSTNAME"} & environment.keys()


def test_the_script_of_isolated_bursts_is_one_that_any_shell_takes() -> None:
    script = Path(isolated.__file__).with_name("run_isolated.sh")
    subprocess.run(["sh", "-n", str(script)], check=True)
    checker = shutil.which("shellcheck")
    if checker is not None:
        subprocess.run([checker, "--shell=sh", str(script)], check=True)
