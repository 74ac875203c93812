"""What Kubernetes Engine answers, as an error with a type: each from the code that says so."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.cloud import container_v1
from tests.gke.sites import Site
from tests.gke.test_plugin import burst, gke_plugin, write_gke_site
from tests.google.google_grpc import Refusal

from fluxburst.errors import AuthError, BurstError, CapacityError, QuotaError, UnreachableError
from fluxburst_gke.errors import UnderWayError, from_conditions, from_text
from fluxburst_google.errors import BusyError, GoogleFailure

pytestmark = pytest.mark.kubernetes

Code = grpc.StatusCode
QUOTA = 'Insufficient regional quota to satisfy request: resource "C2_CPUS"'
DENIED = 'Required "container.clusters.update" permission(s) for "projects/a-project".'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return write_gke_site(tmp_path / "elastic")


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        (Refusal(Code.UNAUTHENTICATED, "who are you?"), AuthError, "gcloud auth"),
        (
            Refusal(Code.PERMISSION_DENIED, DENIED, "IAM_PERMISSION_DENIED"),
            AuthError,
            "missing permission is container.clusters.update",
        ),
        (Refusal(Code.PERMISSION_DENIED, QUOTA), QuotaError, "C2_CPUS"),
        (Refusal(Code.RESOURCE_EXHAUSTED, "quota 'CPUS' exceeded"), QuotaError, "CPUS"),
        (Refusal(Code.UNAVAILABLE, "none", "GCE_STOCKOUT"), CapacityError, "none"),
        (Refusal(Code.INVALID_ARGUMENT, "no such machine type"), GoogleFailure, "no such"),
        (Refusal(Code.DEADLINE_EXCEEDED, "too slow"), UnreachableError, "did not answer in time"),
    ],
)
def test_each_code_is_an_error_of_its_kind(
    gke: Site, site: Path, namespace: str, refusal: Refusal, error: type[BurstError], said: str
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace)
    gke.refuse("CreateNodePool", refusal, times=9)
    with pytest.raises(error, match=said) as caught:
        plugin.create(burst())
    assert type(caught.value) is error
    assert "create the node pool gke-0123456789ab" in str(caught.value) or error is CapacityError
    plugin.delete(burst())
    assert gke.left() == []


def test_what_is_there_already_is_taken_as_made(gke: Site, site: Path, namespace: str) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace)
    gke.after = lambda method, number: _lose(gke, method)
    made = plugin.create(burst())
    assert gke.nodes_of(made.name) == 2
    assert gke.asked.count("CreateNodePool") == 2
    plugin.delete(made)
    assert gke.left() == []


def _lose(gke: Site, method: str) -> None:
    """Have the answer of one request be lost."""
    if method == "CreateNodePool" and gke.asked.count(method) == 1:
        raise Refusal(Code.UNAVAILABLE, "the connection was lost")


def test_a_service_that_is_too_busy_is_asked_again_when_it_says(
    gke: Site, site: Path, namespace: str
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace)
    busy = Refusal(Code.RESOURCE_EXHAUSTED, "Too many requests", "RATE_LIMIT_EXCEEDED", 0.05)
    gke.refuse("CreateNodePool", busy, times=3)
    plugin.delete(plugin.create(burst()))
    gke.refuse("CreateNodePool", Refusal(Code.RESOURCE_EXHAUSTED, "x", "RATE_LIMIT_EXCEEDED", 60))
    with pytest.raises(BusyError):
        plugin.create(burst())
    plugin.delete(burst())


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(Code.FAILED_PRECONDITION, "Cluster is running incompatible operation o-1."),
        Refusal(
            Code.RESOURCE_EXHAUSTED,
            "Too many operations: cluster hits the concurrent operations quota 5, please try again",
        ),
        Refusal(Code.FAILED_PRECONDITION, "x", "CLUSTER_ALREADY_HAS_OPERATION"),
    ],
)
def test_a_cluster_that_is_busy_is_waited_for(
    gke: Site, site: Path, namespace: str, refusal: Refusal
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace)
    for method in ("CreateNodePool", "DeleteNodePool"):
        gke.refuse(method, refusal, times=3)
    plugin.delete(plugin.create(burst()))
    assert gke.left() == []
    gke.refuse("CreateNodePool", refusal, times=1000)
    short = gke_plugin(gke, site, namespace=namespace, pool_timeout=0.1)
    with pytest.raises(UnderWayError):
        short.create(burst())
    short.delete(burst())
    assert gke.left() == []


def test_what_is_not_there_is_deleted(gke: Site, site: Path, namespace: str) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace)
    made = plugin.create(burst())
    gke.before = lambda method, number: gke.pools.clear() if method == "DeleteNodePool" else None
    plugin.delete(made)
    assert gke.left() == []


def test_nodes_that_do_not_come_in_time_are_no_capacity(
    gke: Site, site: Path, namespace: str
) -> None:
    plugin = gke_plugin(gke, site, namespace=namespace, pool_timeout=0.2)
    gke.polls = 10_000
    with pytest.raises(CapacityError, match=r"timed out after .*: create the node pool"):
        plugin.create(burst())
    (found,) = plugin.adopt()
    assert found.name == "gke-0123456789ab"
    gke.polls = 1
    gke.finish()
    plugin.delete(found)
    assert gke.left() == []


@pytest.mark.parametrize(
    ("code", "error"), [("GCE_STOCKOUT", CapacityError), ("GCE_QUOTA_EXCEEDED", QuotaError)]
)
def test_each_condition_of_a_node_pool_is_an_error_of_its_kind(
    code: str, error: type[BurstError]
) -> None:
    known = container_v1.StatusCondition(code=code, message="it is so")
    other = container_v1.StatusCondition(code="CA_EXPIRING", message="soon")
    assert type(from_conditions([other, known], "run")) is error
    assert from_conditions([other], "run") is None
    assert type(from_text(f"Current errors: [{code}]: Instance 'x' failed", "run")) is error


def test_credentials_that_are_not_there_are_said_plainly(
    gke: Site, site: Path, namespace: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere"))
    with pytest.raises(AuthError, match="there are no Google credentials"):
        gke_plugin(gke, site, namespace=namespace)
