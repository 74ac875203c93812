"""What an API server answers, as an error with a type: each from the code that says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.kubernetes.apiserver import make_certificates
from tests.kubernetes.servers import Reply, Script, found, kubeconfig, serving, status

from fluxburst.errors import AuthError, BurstError, ConfigError, QuotaError, UnreachableError
from fluxburst_kubernetes.cluster import (
    MINICLUSTERS,
    SECRETS,
    Cluster,
    configuration,
    configuration_of,
    connected,
)
from fluxburst_kubernetes.errors import ApiFailure, ExistsError, NotFoundError
from fluxburst_kubernetes.node_pools import Access

MANIFEST = {"metadata": {"name": "x"}}


@contextmanager
def asking(
    tmp_path: Path, *replies: Reply | None, patience: float = 1.5
) -> Iterator[tuple[Cluster, Script]]:
    """Connect to a server that answers in this way."""
    script = Script(replies)
    with serving(script) as url:
        config = configuration(kubeconfig(tmp_path / "kubeconfig", url), None)
        with connected(config, "space", 5, patience) as cluster:
            yield cluster, script


@pytest.mark.parametrize(
    ("code", "reason", "message", "error", "said"),
    [
        (401, "Unauthorized", "Unauthorized", AuthError, "does not accept these credentials"),
        (403, "Forbidden", 'User "x" cannot create resource', AuthError, r"rbac\.yaml"),
        (403, "Forbidden", "exceeded quota: small, limited: count/x=1", QuotaError, "small"),
        (404, "NotFound", 'namespaces "space" not found', NotFoundError, "does not exist"),
        (409, "AlreadyExists", 'secrets "x" already exists', ExistsError, "already exists"),
        (409, "Conflict", "the object has been modified", ApiFailure, "been modified"),
        (422, "Invalid", "spec.size: Invalid value", ApiFailure, "spec.size"),
        (500, "InternalError", "etcd is sad", ApiFailure, r"etcd is sad \(HTTP 500\)"),
        (503, "ServiceUnavailable", "shutting down", ApiFailure, r"\(HTTP 503\)"),
    ],
)
def test_each_code_is_an_error_of_its_kind(
    tmp_path: Path, code: int, reason: str, message: str, error: type[BurstError], said: str
) -> None:
    with asking(tmp_path, status(code, reason, message)) as (cluster, script):
        with pytest.raises(error, match=said) as caught:
            cluster.create(SECRETS, dict(MANIFEST))
        assert type(caught.value) is error
        assert "create the Secret x" in str(caught.value)
        assert len(script.asked) == 1


def test_what_is_not_there_is_none_to_get_and_gone_to_delete(tmp_path: Path) -> None:
    with asking(tmp_path, status(404, "NotFound", "no")) as (cluster, _):
        assert cluster.get(SECRETS, "x") is None
        cluster.delete(SECRETS, "x")
        with pytest.raises(NotFoundError):
            cluster.patch(MINICLUSTERS, "x", {})


PAGES = [
    (404, b"<html>404 Not Found nginx</html>", {"Content-Type": "text/html"}),
    (404, b"404 page not found\n", {"Content-Type": "text/plain"}),
    (404, b'{"message": "no Route matched"}', {"Content-Type": "application/json"}),
]
"""How proxies and load balancers say that they have nothing."""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_no_answer_of_any_object(tmp_path: Path, page: Reply) -> None:
    with asking(tmp_path, page) as (cluster, _):
        for ask in (
            lambda: cluster.get(SECRETS, "x"),
            lambda: cluster.delete(SECRETS, "x"),
            lambda: cluster.list(SECRETS, {}),
            lambda: cluster.list(MINICLUSTERS, {}),
        ):
            with pytest.raises(UnreachableError, match="is not a Kubernetes API server"):
                ask()


def test_a_status_of_something_else_does_not_say_that_an_object_is_gone(tmp_path: Path) -> None:
    for about in ({"name": "space", "kind": "namespaces"}, {"name": "y", "kind": "secrets"}):
        with asking(tmp_path, not_found(about)) as (cluster, _), pytest.raises(NotFoundError):
            cluster.get(SECRETS, "x")
    with asking(tmp_path, not_found({"name": "x", "kind": "secrets"})) as (cluster, _):
        assert cluster.get(SECRETS, "x") is None


def not_found(about: dict[str, str]) -> Reply:
    code, body, headers = status(404, "NotFound", "no")
    return code, json.dumps({**json.loads(body), "details": about}).encode(), headers


@pytest.mark.parametrize("page", [*PAGES, status(404, "NotFound", "the requested resource")])
@pytest.mark.parametrize("has", ["it", "another version", "others", "a page"])
def test_a_kind_is_not_served_where_the_server_says_so_itself(
    tmp_path: Path, page: Reply, has: str
) -> None:
    version = MINICLUSTERS.version if has == "it" else "v1alpha1"
    group = "other.example" if has == "others" else MINICLUSTERS.group
    discovery = [page] if has == "a page" else discovered(group, version)
    error = UnreachableError if has in ("it", "a page") else NotFoundError
    replies = [page, *discovery] * 99
    with asking(tmp_path, *replies, patience=0.2) as (cluster, _), pytest.raises(error):
        cluster.list(MINICLUSTERS, {})


def discovered(group: str, version: str) -> list[Reply]:
    """Return what a server answers that has MiniClusters of a group and a version."""
    groups = [{"name": group, "versions": [{"version": version}]}]
    kinds = [{"name": MINICLUSTERS.plural}]
    return [
        found({"kind": "APIGroupList", "groups": groups}),
        found({"kind": "APIResourceList", "resources": kinds}),
    ]


@pytest.mark.parametrize("page", [PAGES[1], status(404, "NotFound", "the requested resource")])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("lists_kinds", [True, False])
def test_a_kind_that_was_just_defined_is_listed_once_the_server_agrees_with_itself(
    tmp_path: Path, page: Reply, times: int, lists_kinds: bool
) -> None:
    groups, kinds = discovered(MINICLUSTERS.group, MINICLUSTERS.version)
    replies = [page, groups, kinds if lists_kinds else page] * times
    with asking(tmp_path, *replies, found({"items": []}), patience=60) as (cluster, script):
        assert cluster.list(MINICLUSTERS, {}) == []
        assert len(script.asked) == len(replies) + 1


def test_a_kind_that_was_just_deleted_is_not_served_once_the_server_agrees_with_itself(
    tmp_path: Path,
) -> None:
    page, here = PAGES[1], discovered(MINICLUSTERS.group, MINICLUSTERS.version)
    gone = found({"kind": "APIGroupList", "groups": []})
    with (
        asking(tmp_path, page, *here, page, gone, patience=60) as (cluster, _),
        pytest.raises(NotFoundError),
    ):
        cluster.list(MINICLUSTERS, {})


def test_a_page_is_no_log(tmp_path: Path) -> None:
    page = (200, b"<html>log in</html>", {"Content-Type": "text/html"})
    with asking(tmp_path, page) as (cluster, _), pytest.raises(UnreachableError):
        cluster.log("x-0", "x", 10)
    with asking(tmp_path, (200, b"it says", {"Content-Type": "text/plain"})) as (cluster, _):
        assert cluster.log("x-0", "x", 4) == b"it s"


def test_a_server_that_is_too_busy_is_asked_again_when_it_says(tmp_path: Path) -> None:
    busy = status(429, "TooManyRequests", "slow down", Retry_After="0")
    with asking(tmp_path, busy, busy, found({"metadata": {"name": "x"}})) as (cluster, script):
        assert cluster.get(SECRETS, "x") == {"metadata": {"name": "x"}}
        assert len(script.asked) == 3


def test_a_server_that_stays_too_busy_is_not_asked_for_ever(tmp_path: Path) -> None:
    with asking(tmp_path, status(429, "TooManyRequests", "slow", Retry_After="1")) as (
        cluster,
        script,
    ):
        with pytest.raises(ApiFailure, match="too busy to get the Secret x: slow"):
            cluster.get(SECRETS, "x")
        assert len(script.asked) == 2
    with asking(tmp_path, status(429, "TooManyRequests", "slow", Retry_After="3600")) as (
        cluster,
        script,
    ):
        with pytest.raises(ApiFailure, match="too busy"):
            cluster.get(SECRETS, "x")
        assert len(script.asked) == 1


def test_credentials_that_have_ended_are_renewed_where_there_are_others(tmp_path: Path) -> None:
    ended = status(401, "Unauthorized", "Unauthorized")
    script = Script([ended, found({"metadata": {"name": "x"}}), ended])
    with serving(script) as url:
        old = configuration(kubeconfig(tmp_path / "old", url, "old"), None)
        new = configuration(kubeconfig(tmp_path / "new", url, "new"), None)
        with connected(old, "space", 5, 1.5, lambda: new) as cluster:
            assert cluster.get(SECRETS, "x") == {"metadata": {"name": "x"}}
            assert cluster.config == new
            with pytest.raises(AuthError, match="does not accept these credentials"):
                cluster.get(SECRETS, "x")
    assert len(script.asked) == 3


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    config = configuration(kubeconfig(tmp_path / "k", "http://127.0.0.1:9"), None)
    with (
        connected(config, "space", 5, 1) as cluster,
        pytest.raises(
            UnreachableError, match=r"cannot ask the API server http://127\.0\.0\.1:9 to list"
        ),
    ):
        cluster.list(SECRETS, {})


@pytest.mark.parametrize(
    "reply",
    [
        None,
        (502, b"<html>", {"Content-Type": "text/html"}),
        (500, b"", {}),
        (200, b"<html>", {"Content-Type": "text/html"}),
        (403, b"{", {"Content-Type": "application/json"}),
    ],
)
def test_what_is_no_api_server_is_a_burst_error(tmp_path: Path, reply: Reply | None) -> None:
    with asking(tmp_path, reply) as (cluster, _), pytest.raises(BurstError):
        cluster.get(SECRETS, "x")


def test_neither_token_nor_content_is_in_an_error(tmp_path: Path) -> None:
    secret = {"metadata": {"name": "x"}, "data": {"curve.cert": "c2VjcmV0"}}
    for reply in (status(500, "InternalError", "no"), status(403, "Forbidden", "no"), None):
        with asking(tmp_path, reply) as (cluster, _), pytest.raises(BurstError) as caught:
            cluster.create(SECRETS, secret)
        chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value}"
        assert not re.search("c2VjcmV0|Bearer|token", chain)


@pytest.mark.parametrize(
    "text", ["", "[]", "a: [", "clusters: []\ncontexts: []\ncurrent-context: x\n"]
)
def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig"):
        configuration(path, None)
    with pytest.raises(ConfigError):
        configuration(tmp_path / "missing", None)
    with pytest.raises(ConfigError, match="elsewhere"):
        configuration(kubeconfig(path, "http://127.0.0.1:9"), "elsewhere")


# --- a cluster's own authority -------------------------------------------------------------------


def test_an_authority_of_a_clusters_own_is_taken_as_it_is_and_no_other(tmp_path: Path) -> None:
    keys, others = tmp_path / "keys", tmp_path / "others"
    for directory in (keys, others):
        directory.mkdir()
        make_certificates(directory, identified=False)
    script = Script([found({"gitVersion": "v1.2.3"})])
    with serving(script, keys) as url:
        for directory, trusted in ((keys, True), (others, False)):
            authority = (directory / "ca.crt").read_bytes()
            config = configuration_of(Access("mine", url, authority, "token", "me"))
            with connected(config, "space", 5, 1.5) as cluster:
                assert cluster.who == "context mine, user me"
                if trusted:
                    assert cluster.version() == "v1.2.3"
                    cluster.create(SECRETS, dict(MANIFEST))
                else:
                    with pytest.raises(UnreachableError, match="certificate verify failed"):
                        cluster.version()
                    with pytest.raises(UnreachableError, match="certificate verify failed"):
                        cluster.list(SECRETS, {})
