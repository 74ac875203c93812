"""A Kubernetes cluster as the plugin talks to it: plain data, and errors with a type.

This is the one module that imports lightkube, and it is only imported once a cluster is needed.
"""

from __future__ import annotations

import base64
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import yaml
from lightkube import ApiError, Client
from lightkube.config import client_adapter, models
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError as KubeconfigError
from lightkube.generic_resource import (
    GenericGlobalResource,
    GenericNamespacedResource,
    create_api_info,
)
from lightkube.types import CascadeType, PatchType

from fluxburst.errors import AuthError, ConfigError, UnreachableError
from fluxburst.provider import probe
from fluxburst_kubernetes import manifests
from fluxburst_kubernetes.errors import (
    Answer,
    NotFoundError,
    PageError,
    as_error,
    is_about,
    no_server,
)
from fluxburst_kubernetes.node_pools import Access

T = TypeVar("T")

Object = dict[str, Any]
"""An object of the API, as JSON has it."""

Renew = Callable[[], "SingleConfig | None"]
"""Says how to reach a cluster now, and as whom."""

LONGEST_PAUSE = 30.0

DISAGREES_SECONDS = 2.0
"""For how long a server may say that it has a kind of objects, and not list them.

What it has is told by one part of it and listed by another, and each learns at a moment of its own
of a definition that was just made or deleted.
"""

DISAGREES_PAUSE = 0.1


@dataclass(frozen=True)
class Kind:
    """A kind of object."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def resource(self) -> Any:
        """The class by which lightkube knows it; its objects are dicts."""
        base = GenericNamespacedResource if self.namespaced else GenericGlobalResource
        info = create_api_info(self.group, self.version, self.kind, self.plural)
        return type(self.kind, (base,), {"_api_info": info})


NAMESPACES = Kind("", "v1", "Namespace", "namespaces", namespaced=False)
SECRETS = Kind("", "v1", "Secret", "secrets")
PODS = Kind("", "v1", "Pod", "pods")
JOBS = Kind("batch", "v1", "Job", "jobs")
MINICLUSTERS = Kind(manifests.GROUP, manifests.VERSION, manifests.KIND, manifests.PLURAL)
ACCESS_REVIEWS = Kind(
    "authorization.k8s.io",
    "v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    namespaced=False,
)
SELF_REVIEWS = Kind(
    "authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False
)


def configuration(kubeconfig: Path | None, context: str | None) -> SingleConfig:
    """Return how to reach a cluster, and as whom.

    Args:
        kubeconfig: The file; None for in-cluster credentials, else the usual one.
        context: The context of it; None for its current one.

    Raises:
        ConfigError: if there is no such configuration.
    """
    source = str(kubeconfig or "kubeconfig")
    try:
        if kubeconfig is not None:
            config = KubeConfig.from_file(kubeconfig)
        else:
            config = KubeConfig.from_env()
        chosen = config.get(context)
    except (KubeconfigError, OSError, yaml.YAMLError) as error:
        raise ConfigError(source, f"gives no access to a cluster: {error}") from error
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # lightkube checks nothing
        problem = f"is no kubeconfig file ({type(error).__name__}: {error})"
        raise ConfigError(source, problem) from error
    if chosen is None or chosen.user is None:
        raise ConfigError(source, "gives no access to a cluster: its context has no user")
    return chosen


def configuration_of(access: Access) -> SingleConfig:
    """Return how to reach a cluster that a provider manages."""
    config = KubeConfig.from_one(
        cluster=models.Cluster(
            server=access.server,
            certificate_auth_data=base64.b64encode(access.certificate).decode(),
        ),
        user=models.User(token=access.token),
        context_name=access.cluster,
    ).get()
    assert config is not None
    context = models.Context(cluster=access.cluster, user=access.user or access.cluster)
    return config._replace(context=context)


class Cluster:
    """One cluster and one namespace in it, for as long as a connection is open.

    Args:
        config: How to reach it.
        namespace: The namespace.
        timeout: How many seconds the server may take to answer.
        patience: For how many seconds to go on asking a server that is too busy.
        renew: Says how to reach it when its credentials have ended; None to have that be an error.
    """

    def __init__(
        self,
        config: SingleConfig,
        namespace: str,
        timeout: float,
        patience: float,
        renew: Renew | None = None,
    ) -> None:
        self.config = config
        self.namespace = namespace
        self._seconds = timeout
        self._timeout = httpx2.Timeout(timeout)
        self._patience = patience
        self._renew = renew
        self._client = self._connect()

    def _connect(self) -> Client:
        transport = _transport(self.config)
        try:
            return Client(self.config, self.namespace, timeout=self._timeout, transport=transport)
        except (KubeconfigError, OSError, ValueError, ssl.SSLError) as error:
            raise ConfigError(self.who, f"cannot be used: {error}") from error

    def _connect_anew(self) -> bool:
        """Connect with other credentials, as those of a provider end within minutes.

        Returns:
            Whether there are any.
        """
        config = self._renew() if self._renew is not None else None
        if config is None or config.user == self.config.user:
            return False
        self._client.close()
        self.config = config
        self._client = self._connect()
        return True

    @property
    def who(self) -> str:
        """The context and the user of the configuration, for a person."""
        context, user = self.config.context_name, self.config.context.user
        return f"context {context}, user {user or 'default'}"

    def beside(self, namespace: str) -> Cluster:
        """Return the same cluster with another namespace, as a connection of its own."""
        return Cluster(self.config, namespace, self._seconds, self._patience, self._renew)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, kind: Kind, name: str) -> Object | None:
        """Return an object; None if it is not there, which only a Status of that object tells."""
        doing = f"get {_named(kind, name)}"
        try:
            return dict(self._ask(doing, lambda: self._client.get(kind.resource, name)))
        except NotFoundError as error:
            if not is_about(error.answer, name, kind.plural):
                raise
            return None

    def list(self, kind: Kind, labels: Mapping[str, str]) -> Sequence[Object]:
        """Return the objects that have these labels.

        Raises:
            NotFoundError: if the server has no such kind of objects, and says so twice.
            PageError: if it says that it has them, and goes on listing none.
        """

        def ask() -> Sequence[Object]:
            return [dict(found) for found in self._client.list(kind.resource, labels=dict(labels))]

        doing = f"list {kind.plural}"
        until = time.monotonic() + probe.patience(min(self._patience, DISAGREES_SECONDS))
        while True:
            try:
                return self._ask(doing, ask)
            except (NotFoundError, PageError) as error:
                if not self._serves(kind):
                    nothing = Answer(404, "NotFound", f"the server has no {kind.plural}")
                    raise as_error(nothing, doing) from error
                if not kind.group or time.monotonic() > until:
                    problem = f"{no_server(doing)}: it has them, and answers HTTP 404"
                    raise PageError(problem) from error
            time.sleep(DISAGREES_PAUSE)

    def _serves(self, kind: Kind) -> bool:
        """Whether the server says that it has a kind of objects.

        An API server answers for a kind that it does not have as what stands before one answers
        for anything: with a page. What it has it tells all who are let in
        (https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api).
        """
        if not kind.group:
            return True
        groups = self._discover("/apis", "APIGroupList")["groups"]
        versions = [v["version"] for g in groups if g["name"] == kind.group for v in g["versions"]]
        if kind.version not in versions:
            return False
        place = f"/apis/{kind.group}/{kind.version}"
        try:
            found = self._discover(place, "APIResourceList")["resources"]
        except PageError:  # it was just told of: the one who lists it does not know of it yet
            return True
        return kind.plural in [one["name"] for one in found]

    def _discover(self, path: str, kind: str) -> Object:
        """Return what the server says it has."""

        def ask() -> Object:
            with self._plain_client() as client:
                answer = client.get(path)
                answer.raise_for_status()
                found = answer.json()
                if not isinstance(found, dict) or found.get("kind") != kind:
                    raise ValueError(f"no {kind}")
                return found

        doing = "tell which kinds of objects it has"
        try:
            return self._ask(doing, ask)
        except NotFoundError as error:  # every API server has that
            raise PageError(f"{no_server(doing)}: {self.config.cluster.server}") from error

    def create(self, kind: Kind, manifest: Object) -> Object:
        """Create an object.

        Raises:
            ExistsError: if one of that name is there already.
        """
        name = manifest.get("metadata", {}).get("name", "")
        made = kind.resource(manifest)
        return dict(self._ask(f"create {_named(kind, name)}", lambda: self._client.create(made)))

    def patch(self, kind: Kind, name: str, change: Object) -> Object:
        """Merge a change into an object (RFC 7386)."""

        def ask() -> Any:
            return self._client.patch(kind.resource, name, change, patch_type=PatchType.MERGE)

        return dict(self._ask(f"patch {_named(kind, name)}", ask))

    def delete(self, kind: Kind, name: str) -> None:
        """Delete an object, and what is made from it; one that is not there is a success."""

        def ask() -> None:
            self._client.delete(kind.resource, name, cascade=CascadeType.BACKGROUND)

        try:
            self._ask(f"delete {_named(kind, name)}", ask)
        except NotFoundError:
            return

    def log(self, pod: str, container: str, limit: int, *, previous: bool = False) -> bytes:
        """Return the beginning of a container's log, as its node still has it.

        Args:
            pod: The pod's name.
            container: The container.
            limit: How many bytes to return at most.
            previous: Whether the log of the container before its last start is meant.
        """
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        wanted = {"container": container, "limitBytes": limit, "previous": previous}

        def ask() -> bytes:
            with self._plain_client() as client:
                answer = client.get(path, params=wanted)
                if answer.is_error and "json" in answer.headers.get("Content-Type", ""):
                    raise ApiError(request=answer.request, response=answer)
                answer.raise_for_status()
                if "html" in answer.headers.get("Content-Type", ""):
                    raise ValueError("a page is no log")
                return bytes(answer.content)[:limit]

        return self._ask(f"read the log of the Pod {pod}", ask)

    def version(self) -> str:
        """Return the version of the API server, such as ``v1.31.2``."""

        def ask() -> str:
            with self._plain_client() as client:
                answer = client.get("/version")
                answer.raise_for_status()
                return str(answer.json().get("gitVersion", "of an unknown version"))

        return self._ask("tell its version", ask)

    def _plain_client(self) -> httpx2.Client:
        """Return a client for what lightkube has no request for."""
        parameters = client_adapter.ConnectionParams(
            timeout=self._timeout, transport=_transport(self.config)
        )
        return client_adapter.Client(self.config, parameters)

    def _ask(self, doing: str, ask: Callable[[], T]) -> T:
        """Ask the server, again while it is too busy, or once credentials have been renewed.

        Raises:
            BurstError: or one of its kinds, for what it answers.
        """
        with probe.asked(f"the API server {self.config.cluster.server}"):
            return self._answered(doing, ask)

    def _answered(self, doing: str, ask: Callable[[], T]) -> T:
        until = time.monotonic() + probe.patience(self._patience)
        while True:
            try:
                return ask()
            except httpx2.HTTPStatusError as error:
                answer = _answer(error)
                if answer.code == 401 and self._connect_anew():
                    continue
                pause = answer.retry_after
                if pause is None or time.monotonic() + pause > until:
                    raise as_error(answer, doing) from error
                time.sleep(min(pause, LONGEST_PAUSE))
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
                server = self.config.cluster.server
                said = str(error) or type(error).__name__
                problem = f"the API server {server} cannot be asked to {doing}: {said}"
                raise UnreachableError(problem) from error
            except (KeyError, ValueError) as error:  # lightkube reads every answer as a Status
                raise UnreachableError(
                    f"{no_server(doing)}: {self.config.cluster.server}"
                ) from error
            except KubeconfigError as error:  # a command that fetches credentials failed
                raise AuthError(f"no credentials to {doing} with: {error}") from error


@contextmanager
def connected(
    config: SingleConfig,
    namespace: str,
    timeout: float,
    patience: float,
    renew: Renew | None = None,
) -> Iterator[Cluster]:
    """Open a connection, and close it."""
    cluster = Cluster(config, namespace, timeout, patience, renew)
    try:
        yield cluster
    finally:
        cluster.close()


def _transport(config: SingleConfig) -> httpx2.HTTPTransport | None:
    """Return a transport that takes a cluster's own authority as it is; None for the usual one.

    Since Python 3.13 a certificate without an Authority Key Identifier is refused
    (ssl.VERIFY_X509_STRICT), and clusters of some age have an authority that makes such. The chain,
    the dates and the name are verified as ever.
    """
    cluster = config.cluster
    if config.user is None or not (cluster.certificate_auth or cluster.certificate_auth_data):
        return None
    context = client_adapter.verify_cluster(cluster, config.user, config.abs_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return httpx2.HTTPTransport(verify=context, proxy=_proxy(cluster.server))


def _proxy(url: str) -> str | None:
    """Return the proxy of the environment for a URL, which a transport does not look for."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _answer(error: httpx2.HTTPStatusError) -> Answer:
    response = error.response
    if isinstance(error, ApiError):
        status = error.status
        message, reason = status.message or "", status.reason or ""
        details = status.details
    else:
        message, reason, details = response.reason_phrase, "", None
    about = {key: str(getattr(details, key, None) or "") for key in ("name", "kind")}
    return Answer(response.status_code, reason, message, response.headers, about)


def _named(kind: Kind, name: str) -> str:
    return f"the {kind.kind} {name}".rstrip()
