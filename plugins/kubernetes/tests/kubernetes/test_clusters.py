"""Against a real API server: what is made, found again, and deleted."""

from __future__ import annotations

import base64
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.kubernetes.apiserver import NOBODY, RESTRICTED, Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator
from tests.kubernetes.servers import between, kubeconfig
from tests.kubernetes.sites import SECRET_KEY, burst, client_of, plugin_of, write_site

import fluxburst_kubernetes
from fluxburst import Burst, BurstState, NodeType
from fluxburst.errors import AuthError, BurstError, CapacityError
from fluxburst.model.burst import prefix_of
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst_kubernetes import KubernetesBurst, labels

pytestmark = pytest.mark.kubernetes

RBAC = Path(fluxburst_kubernetes.__file__).parent / "rbac.yaml"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_site(tmp_path / "elastic")


def objects(server: Server, namespace: str) -> list[str]:
    """Return what there is in a namespace, save what the cluster itself makes."""
    found = []
    for path, kind in (
        ("/apis/flux-framework.org/v1alpha2", "miniclusters"),
        ("/apis/batch/v1", "jobs"),
        ("/api/v1", "pods"),
        ("/api/v1", "secrets"),
    ):
        for one in server.api.items(f"{path}/namespaces/{namespace}/{kind}"):
            found.append(f"{kind}/{one['metadata']['name']}")
    return found


def cluster_of(server: Server, namespace: str, name: str) -> dict[str, Any]:
    path = f"/apis/flux-framework.org/v1alpha2/namespaces/{namespace}/miniclusters/{name}"
    return server.api("GET", path)


def joined(plugin: KubernetesBurst, made: Burst, count: int) -> None:
    """Have nodes of a burst be up in the embedded instance."""
    assert isinstance(plugin.instance, EmbeddedInstance)
    plugin.instance.add_nodes(made.hostnames[:count], NodeType("pod", 4))


# --- coming and going ----------------------------------------------------------------------------


def test_a_burst_is_a_minicluster_that_the_server_takes_as_it_stands(
    server: Server, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace, image="example.org/flux:0.88.0")
    made = plugin.create(burst(jobs=(7, 9), lease_until=time.time() + 3600))
    assert (made.state, made.hostnames) == (BurstState.STARTING, ("burst-0-0", "burst-0-1"))
    there = cluster_of(server, namespace, "burst-0")
    wanted = burst(jobs=(7, 9))
    sent = plugin.maker.manifest(plugin.slots[0], wanted, plugin._pods(wanted))["spec"]
    for key, value in sent.items():
        assert _is_part(value, there["spec"][key]), key
    assert there["spec"]["deadlineSeconds"] in (3599, 3600)
    assert labels.read(there).jobs == (7, 9)


def _is_part(sent: Any, there: Any) -> bool:
    """Whether all that was sent is there; the server adds defaults."""
    if isinstance(sent, dict):
        return all(key in there and _is_part(value, there[key]) for key, value in sent.items())
    if isinstance(sent, list):
        return len(sent) == len(there) and all(map(_is_part, sent, there))
    return bool(sent == there)


def test_creating_twice_adopts_and_another_takes_the_next_slot(
    server: Server, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    first = plugin.create(burst("kubernetes-1"))
    assert plugin.create(burst("kubernetes-1")) == first
    again = plugin_of(server, site, namespace=namespace)
    assert again.create(burst("kubernetes-1")).hostnames == first.hostnames
    assert again.create(burst("kubernetes-2")).hostnames == ("burst-1-0", "burst-1-1")
    with pytest.raises(CapacityError, match="no free slot holds them"):
        again.create(burst("kubernetes-3"))


def test_what_a_burst_left_out_of_its_slot_is_not_used(
    server: Server, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    assert [kind.max_nodes for kind in plugin.node_types()] == [3]
    made = plugin.create(burst(nodes=1))
    plugin.bursts[made.name] = made
    assert [kind.max_nodes for kind in plugin.node_types()] == [1 + 3]
    other = plugin.create(burst("kubernetes-2", nodes=3))
    plugin.bursts[other.name] = other
    assert [kind.max_nodes for kind in plugin.node_types()] == [1 + 3]


def test_free_slots_that_are_seen_while_one_is_taken_are_not_those_of_after(
    server: Server, site: Path, namespace: str
) -> None:
    made: list[KubernetesBurst] = []

    def look(_: int) -> None:
        for plugin in made:
            plugin.node_types()

    with between(server, look, lambda _: None, counted=["POST"]) as url:
        config = str(kubeconfig(site.parent / "between", url, server.tokens["admin"]))
        given = {"namespace": namespace, "kubeconfig": config, "poll_interval": 3600}
        plugin = plugin_of(server, site, **given)
        made.append(plugin)
        for name in ("kubernetes-1", "kubernetes-2"):  # as many as there are slots
            plugin.bursts[name] = plugin.create(burst(name, nodes=1))
        assert [kind.max_nodes for kind in plugin.node_types()] == [1 + 1]


def test_a_burst_larger_than_every_slot_is_no_capacity(
    server: Server, site: Path, namespace: str
) -> None:
    with pytest.raises(CapacityError, match="burst-0 of 3"):
        plugin_of(server, site, namespace=namespace).create(burst(nodes=4))


def test_deleting_leaves_nothing_but_the_namespace(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    one, two = plugin.create(burst("kubernetes-1")), plugin.create(burst("kubernetes-2"))
    wait_until(lambda: len(objects(server, namespace)) == 2 + 2 + 4 + 1, "all is there")
    plugin.delete(one)
    assert plugin.list_bursts() == ["kubernetes-2"]
    assert [name for name in objects(server, namespace) if "secrets/" in name] != []
    plugin.delete(two)
    plugin.delete(two)
    assert objects(server, namespace) == []
    assert server.api("GET", f"/api/v1/namespaces/{namespace}")["metadata"]["name"] == namespace


def test_deleting_touches_nothing_of_others(
    server: Server, operator: FluxOperator, site: Path, tmp_path: Path, namespace: str
) -> None:
    server.namespace(namespace)
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    server.api("POST", secrets, {"metadata": {"name": "mine"}, "data": {}})
    other = plugin_of(server, write_site(tmp_path / "o", key="two"), namespace=namespace)
    plugin = plugin_of(server, site, namespace=namespace)
    name = f"{prefix_of('kubernetes', plugin.instance_tag)}1"
    theirs, ours = other.create(burst(name)), plugin.create(burst(name))
    assert (theirs.hostnames[0], ours.hostnames[0]) == ("burst-0-0", "burst-1-0")
    wait_until(lambda: objects(server, namespace).count("pods/burst-1-1-abcde"), "pods are there")
    plugin.unburst()
    assert plugin.list_bursts() == []
    assert other.list_bursts() == [name]
    left = objects(server, namespace)
    assert [name for name in left if name.startswith("miniclusters/")] == ["miniclusters/burst-0"]
    assert "secrets/mine" in left
    other.delete(theirs)
    assert objects(server, namespace) == ["secrets/mine"]


def test_bursts_are_found_after_a_restart_as_they_were_asked_for(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    until = math.floor(time.time()) + 600.0
    before = plugin_of(server, site, namespace=namespace, price=0.25)
    made = before.create(burst(jobs=(3,), price=0.25, lease_until=until))
    wait_until(lambda: before.refresh(made).since is not None, "its Job has started")
    after = plugin_of(server, site, namespace=namespace)
    (found,) = after.adopt()
    assert found == Burst(
        made.name,
        "kubernetes",
        "pod",
        2,
        (3,),
        BurstState.STARTING,
        made.hostnames,
        0.25,
        since=found.since,
        lease_until=until,
    )
    joined(after, found, 1)
    assert (after.adopt()[0].state, after.adopt()[0].joined) == (BurstState.JOINING, 1)
    joined(after, found, 2)
    assert after.adopt()[0].state is BurstState.READY


def test_a_secret_of_another_content_is_not_written_over(
    server: Server, site: Path, namespace: str
) -> None:
    server.namespace(namespace)
    theirs = {"metadata": {"name": "curve-cert"}, "data": {"curve.cert": "YQ=="}}
    server.api("POST", f"/api/v1/namespaces/{namespace}/secrets", theirs)
    plugin = plugin_of(server, site, namespace=namespace, curve_cert_secret_name="curve-cert")
    with pytest.raises(BurstError, match=r"has a secret .*, not created by fluxburst") as caught:
        plugin.create(burst())
    assert SECRET_KEY not in str(caught.value)
    assert base64.b64encode(SECRET_KEY.encode()).decode() not in repr(caught.value)
    assert plugin.list_bursts() == []


def test_the_munge_key_is_given_when_one_is_named(
    server: Server, operator: FluxOperator, site: Path, tmp_path: Path, namespace: str
) -> None:
    key = tmp_path / "munge.key"
    key.write_bytes(bytes(range(256)))
    plugin = plugin_of(server, site, namespace=namespace, munge_key=str(key))
    made = plugin.create(burst())
    secret = server.api("GET", f"/api/v1/namespaces/{namespace}/secrets/munge-key")
    assert base64.b64decode(secret["data"]["munge.key"]) == key.read_bytes()
    assert cluster_of(server, namespace, "burst-0")["spec"]["flux"]["mungeSecret"] == "munge-key"
    plugin.delete(made)
    assert objects(server, namespace) == []


# --- leases --------------------------------------------------------------------------------------


def test_a_lease_that_is_renewed_moves_the_jobs_deadline(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    made = plugin.create(burst(lease_until=time.time() + 600))
    wait_until(lambda: plugin.refresh(made).since, "its Job has started")
    made = plugin.refresh(made)
    assert made.since is not None
    renewed = Burst(**{**made.__dict__, "lease_until": made.since + 1000})
    assert plugin.renew(renewed).lease_until == made.since + 1000
    job = server.api("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs/burst-0")
    assert job["spec"]["activeDeadlineSeconds"] == 1000
    assert cluster_of(server, namespace, "burst-0")["spec"]["deadlineSeconds"] == 1000
    assert plugin.adopt()[0].lease_until == made.since + 1000


def test_what_is_not_there_cannot_be_renewed(server: Server, site: Path, namespace: str) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    with pytest.raises(BurstError, match="it has no MiniCluster"):
        plugin.renew(burst(lease_until=time.time() + 10))


def test_a_burst_whose_lease_is_over_has_failed_and_says_so(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    made = plugin.create(burst(lease_until=time.time() + 600))
    wait_until(lambda: plugin.refresh(made).since, "its Job has started")
    plugin.renew(replace(made, lease_until=time.time() + 0.5))
    wait_until(lambda: plugin.refresh(made).state is BurstState.FAILED, "its Job has failed")
    assert "DeadlineExceeded" in plugin.refresh(made).error
    assert plugin.adopt()[0].hostnames == ()
    plugin.delete(made)
    assert objects(server, namespace) == []


# --- what goes wrong with pods -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pods_are", "said"),
    [
        ("unschedulable", "Insufficient cpu"),
        ("no-image", "ImagePullBackOff: Back-off pulling image"),
        ("crashing", "CrashLoopBackOff"),
        ("missing", "burst-0-1: there is no pod within"),
        ("running", "did not join within"),
    ],
)
def test_pods_that_will_not_join_fail_the_burst_and_are_cleaned_up(
    server: Server,
    operator: FluxOperator,
    site: Path,
    namespace: str,
    pods_are: str,
    said: str,
) -> None:
    operator.pods_are = pods_are
    short = {"pending_timeout": 0.1, "join_timeout": 0.1}
    plugin = plugin_of(server, site, namespace=namespace, **short)
    made = plugin.create(burst())
    wait_until(lambda: len(objects(server, namespace)) >= 4, "its pods are there")
    wait_until(lambda: said in plugin.refresh(made).error, said)
    failed = plugin.refresh(made)
    assert failed.state is BurstState.FAILED, failed
    plugin.delete(failed)
    assert objects(server, namespace) == []


def test_pods_that_cannot_be_scheduled_yet_are_waited_for(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    operator.pods_are = "unschedulable"
    plugin = plugin_of(server, site, namespace=namespace)
    made = plugin.create(burst())
    wait_until(
        lambda: "Insufficient cpu" in plugin.refresh(made).waiting_for, "it says what it waits for"
    )
    assert plugin.refresh(made).state is BurstState.STARTING


def test_an_operator_that_does_nothing_is_named(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    operator.asleep = True
    plugin = plugin_of(server, site, namespace=namespace, pending_timeout=0.1)
    made = plugin.create(burst())
    wait_until(lambda: plugin.refresh(made).state is BurstState.FAILED, "it has failed")
    assert "is the Flux Operator running?" in plugin.refresh(made).error
    plugin.delete(made)


def test_a_pod_that_was_lost_leaves_the_other_hosts(
    server: Server, operator: FluxOperator, site: Path, namespace: str
) -> None:
    plugin = plugin_of(server, site, namespace=namespace)
    made = plugin.create(burst())
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def run() -> bool:
        phases = [pod["status"].get("phase") for pod in server.api.items(pods)]
        return phases == ["Running", "Running"]

    wait_until(run, "its pods run")
    pod = server.api("GET", f"{pods}/burst-0-1-abcde")
    pod["status"] = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    server.api("PUT", f"{pods}/burst-0-1-abcde/status", pod)
    (found,) = plugin.adopt()
    assert (found.state, found.hostnames) == (BurstState.FAILED, ("burst-0-0",))
    assert found.error == "burst-0-1: its pod has ended: Evicted: low on memory"
    plugin.delete(made)


# --- permissions ---------------------------------------------------------------------------------


def test_the_role_of_rbac_yaml_is_all_that_it_takes(
    server: Server, operator: FluxOperator, site: Path
) -> None:
    server.namespace("flux-operator")
    server.apply(RBAC)
    limited = server.kubeconfig_of(RESTRICTED)
    plugin = plugin_of(server, site, kubeconfig=str(limited))
    assert [one.what for one in plugin.diagnose() if one.level == "error"] == []
    made = plugin.create(burst(lease_until=time.time() + 600))
    wait_until(lambda: plugin.refresh(made).since, "its Job has started")
    plugin.renew(Burst(**{**made.__dict__, "lease_until": time.time() + 900}))
    assert len(plugin.adopt()) == len(plugin.list_bursts()) == 1
    plugin.delete(made)
    assert objects(server, "flux-operator") == []


@pytest.mark.parametrize(
    ("group", "resource", "verb"),
    [
        ("", "secrets", "create"),
        ("flux-framework.org", "miniclusters", "delete"),
        ("batch", "jobs", "patch"),
        ("", "pods", "list"),
        ("", "namespaces", "get"),
    ],
)
def test_each_permission_that_is_missing_is_named(
    server: Server, site: Path, group: str, resource: str, verb: str
) -> None:
    server.namespace("flux-operator")
    server.apply(RBAC)
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/flux-operator/roles/fluxburst"
    role = server.api("GET", path)
    rules = [dict(rule) for rule in role["rules"]]
    for rule in rules:
        if (rule["apiGroups"], rule["resources"]) == ([group], [resource]):
            rule["verbs"] = [one for one in rule["verbs"] if one != verb] or ["watch"]
    server.api("PUT", path, {**role, "rules": rules})
    try:
        plugin = plugin_of(server, site, kubeconfig=str(server.kubeconfig_of(RESTRICTED)))
        missing = f"missing permissions in the namespace flux-operator: {verb} {resource}"

        def named() -> bool:
            return missing in [one.what for one in plugin.diagnose() if one.level == "error"]

        wait_until(named, "the permission is named")  # the server's authorizer has a cache
    finally:
        latest = server.api("GET", path)
        server.api("PUT", path, {**latest, "rules": role["rules"]})
        wait_until(lambda: not named(), "the role is whole again")


def test_credentials_without_permission_or_that_are_wrong_are_said_plainly(
    server: Server, site: Path, namespace: str
) -> None:
    with pytest.raises(AuthError, match=r'User "nobody" cannot list .*rbac.yaml'):
        client_of(server, site, namespace=namespace, kubeconfig=str(server.kubeconfig_of(NOBODY)))
    wrong = server.kubeconfig_of("wrong", token="nonsense")
    with pytest.raises(AuthError, match="does not accept these credentials"):
        client_of(server, site, namespace=namespace, kubeconfig=str(wrong))


def test_doctor_tells_the_server_the_identity_and_the_namespace(
    server: Server, site: Path, namespace: str
) -> None:
    findings = {one.what: one.level for one in plugin_of(server, site).diagnose()}
    (told,) = [what for what in findings if what.startswith("API server v")]
    assert told.endswith(f"at {server.url}, as context test, user admin")
    assert findings["the Flux Operator's miniclusters.flux-framework.org exists"] == "ok"
    assert findings["slots for bursts, with their nodes: burst-0 of 3, burst-1 of 3"] == "ok"
    found = list(plugin_of(server, site, namespace=namespace).diagnose())
    assert f"the namespace {namespace} does not exist yet; bursts create it" in [
        one.what for one in found
    ]
    (lead,) = [one for one in found if "lead.example.org:8050" in one.what]
    assert lead.level == "warning"


# --- the operator --------------------------------------------------------------------------------


@pytest.fixture
def without_operator(server: Server) -> Any:
    """A server that knows no MiniClusters, for one test."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
    server.api("DELETE", f"{path}miniclusters.flux-framework.org")
    wait_until(lambda: not _known(server), "MiniClusters are not known")
    yield
    server.define_miniclusters()


def _known(server: Server) -> bool:
    return bool(server.api("GET", "/apis/flux-framework.org/v1alpha2/miniclusters"))


def test_a_missing_operator_is_said_with_what_to_do(
    server: Server, site: Path, without_operator: None
) -> None:
    with pytest.raises(BurstError, match=r"has no Flux Operator .* set flux_operator_yaml"):
        client_of(server, site)


def test_the_operator_is_installed_from_a_file_only_where_it_is_missing(
    server: Server, site: Path, tmp_path: Path, namespace: str, without_operator: None
) -> None:
    crd = (Path(__file__).parent / "minicluster-crd.yaml").read_text()
    metadata = f"{{name: x, namespace: {namespace}}}"
    account = f"{{kind: ServiceAccount, apiVersion: v1, metadata: {metadata}}}"
    space = f"{{kind: Namespace, apiVersion: v1, metadata: {{name: {namespace}}}}}"
    file = tmp_path / "operator.yaml"
    file.write_text("\n---\n".join([space, account, crd]))
    plugin = plugin_of(server, site, namespace=namespace, flux_operator_yaml=str(file))
    assert not _known(server)
    plugin.create(burst())
    assert plugin.list_bursts() == [burst().name]
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/x"
    assert server.api("GET", path)
    server.api("DELETE", path)
    plugin.create(burst("kubernetes-2"))
    assert server.api("GET", path) == {}
