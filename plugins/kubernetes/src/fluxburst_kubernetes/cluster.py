"""A Kubernetes cluster for this plugin: plain data, and typed errors.

This is the only module that imports lightkube, and it is imported on first use.
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
"""An object of the API, as in JSON."""

Renew = Callable[[], "SingleConfig | None"]
"""Returns the current access to a cluster."""

LONGEST_PAUSE = 30.0

DISAGREES_SECONDS = 2.0
"""How many seconds a server may announce a kind of objects without listing them.

Different parts of a server announce and list, and each learns of a new or deleted definition at
its own time.
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
        """Its class for lightkube; its objects are dicts."""
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
    """Return the access to a cluster.

    Args:
        kubeconfig: The file; None for in-cluster credentials, else the usual file.
        context: Its context; None for the current one.

    Raises:
        ConfigError: if it is missing or invalid.
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
    ) as error:  # lightkube validates nothing
        problem = f"is no kubeconfig file ({type(error).__name__}: {error})"
        raise ConfigError(source, problem) from error
    if chosen is None or chosen.user is None:
        raise ConfigError(source, "gives no access to a cluster: its context has no user")
    return chosen


def configuration_of(access: Access) -> SingleConfig:
    """Return the access to a managed cluster."""
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
    """One namespace of a cluster, over an open connection.

    Args:
        config: The access to it.
        namespace: The namespace.
        timeout: How many seconds the server may take to answer.
        patience: How many seconds to retry while the server is too busy.
        renew: Returns new access when the credentials expire; None to raise an error then.
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
            raise ConfigError(self.who, f"is unusable: {error}") from error

    def _connect_anew(self) -> bool:
        """Reconnect with new credentials, since a provider's expire within minutes.

        Returns:
            Whether there are new ones.
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
        """The context and the user of the configuration, for people."""
        context, user = self.config.context_name, self.config.context.user
        return f"context {context}, user {user or 'default'}"

    def beside(self, namespace: str) -> Cluster:
        """Return the same cluster with another namespace, over a new connection."""
        return Cluster(self.config, namespace, self._seconds, self._patience, self._renew)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, kind: Kind, name: str) -> Object | None:
        """Return an object; None if it does not exist, according to a Status of that object."""
        doing = f"get {_named(kind, name)}"
        try:
            return dict(self._ask(doing, lambda: self._client.get(kind.resource, name)))
        except NotFoundError as error:
            if not is_about(error.answer, name, kind.plural):
                raise
            return None

    def list(self, kind: Kind, labels: Mapping[str, str]) -> Sequence[Object]:
        """Return the objects with these labels.

        Raises:
            NotFoundError: if the server reports twice that it has no such kind of objects.
            PageError: if it announces the kind but never lists it.
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
                    problem = f"{no_server(doing)}: it announces them, but answers HTTP 404"
                    raise PageError(problem) from error
            time.sleep(DISAGREES_PAUSE)

    def _serves(self, kind: Kind) -> bool:
        """Whether the server announces a kind of objects.

        For an unknown kind, an API server answers like a proxy does for anything: with a page. It
        announces its kinds to every user
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
        except PageError:  # just announced: its list is not ready yet
            return True
        return kind.plural in [one["name"] for one in found]

    def _discover(self, path: str, kind: str) -> Object:
        """Return the server's announcement."""

        def ask() -> Object:
            with self._plain_client() as client:
                answer = client.get(path)
                answer.raise_for_status()
                found = answer.json()
                if not isinstance(found, dict) or found.get("kind") != kind:
                    raise ValueError(f"no {kind}")
                return found

        doing = "list its kinds of objects"
        try:
            return self._ask(doing, ask)
        except NotFoundError as error:  # every API server has this
            raise PageError(f"{no_server(doing)}: {self.config.cluster.server}") from error

    def create(self, kind: Kind, manifest: Object) -> Object:
        """Create an object.

        Raises:
            ExistsError: if the name is in use.
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
        """Delete an object and its dependents; success if it does not exist."""

        def ask() -> None:
            self._client.delete(kind.resource, name, cascade=CascadeType.BACKGROUND)

        try:
            self._ask(f"delete {_named(kind, name)}", ask)
        except NotFoundError:
            return

    def log(self, pod: str, container: str, limit: int, *, previous: bool = False) -> bytes:
        """Return the beginning of a container's log, as far as its node still has it.

        Args:
            pod: The pod's name.
            container: The container.
            limit: Maximum number of bytes.
            previous: Whether to read the log from before the container's last start.
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

        return self._ask("get its version", ask)

    def _plain_client(self) -> httpx2.Client:
        """Return a client for requests that lightkube lacks."""
        parameters = client_adapter.ConnectionParams(
            timeout=self._timeout, transport=_transport(self.config)
        )
        return client_adapter.Client(self.config, parameters)

    def _ask(self, doing: str, ask: Callable[[], T]) -> T:
        """Send a request; retry while the server is too busy, or after renewing credentials.

        Raises:
            BurstError: or a subclass, for the server's error.
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
                problem = f"cannot ask the API server {server} to {doing}: {said}"
                raise UnreachableError(problem) from error
            except (KeyError, ValueError) as error:  # lightkube expects a Status in every error
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
    """Return a transport that accepts older cluster authorities; None for the usual one.

    Since Python 3.13, certificates without an Authority Key Identifier are refused
    (ssl.VERIFY_X509_STRICT), but authorities of older clusters issue such. The chain, the dates and
    the name are still verified.
    """
    cluster = config.cluster
    if config.user is None or not (cluster.certificate_auth or cluster.certificate_auth_data):
        return None
    context = client_adapter.verify_cluster(cluster, config.user, config.abs_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return httpx2.HTTPTransport(verify=context, proxy=_proxy(cluster.server))


def _proxy(url: str) -> str | None:
    """Return the environment's proxy for a URL; explicit transports ignore it."""
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
