"""A real kube-apiserver with its etcd on loopback, for tests."""

from __future__ import annotations

import json
import os
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

PROGRAMS = ("etcd", "kube-apiserver")
PATIENCE_SECONDS = 60.0
RESTRICTED = "system:serviceaccount:flux-operator:fluxburst"
"""The user that the package's rbac.yaml gives its role to."""

NOBODY = "nobody"
MANAGED = "app.kubernetes.io/managed-by=fluxburst"


def assets() -> Path | None:
    """Return where the programs are, as setup-envtest and its users have it; None for nowhere."""
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS", ""))
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        return None
    return folder if all(os.access(folder / name, os.X_OK) for name in PROGRAMS) else None


def free_port() -> int:
    """Return a port of the loopback device that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Api:
    """The API as its administrator sees it, by path."""

    def __init__(self, url: str, certificate: Path, token: str) -> None:
        self.keys = certificate.parent
        """The directory with the server's own certificate and key."""
        self._client = httpx2.Client(
            base_url=url,
            verify=ssl.create_default_context(cafile=str(certificate)),
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            trust_env=False,
        )

    def __call__(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        **query: str,
    ) -> dict[str, Any]:
        """Ask, and return what is answered; ``{}`` for what is not there."""
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        answer = self._client.request(method, path, content=content, headers=headers, params=query)
        if answer.status_code == 404:
            return {}
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        found: dict[str, Any] = answer.json()
        return found

    def patch_list(self, path: str, operations: Sequence[Mapping[str, Any]]) -> None:
        """Change an object by a list of operations (RFC 6902)."""
        kind = {"Content-Type": "application/json-patch+json"}
        answer = self._client.patch(path, content=json.dumps(operations), headers=kind)
        assert not answer.is_error, answer.text

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Return the objects of a list."""
        return list(self("GET", path, None, **query).get("items", ()))

    def ready(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(self._client.get("/readyz").status_code == 200)
        except httpx2.HTTPError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Server:
    """A running API server."""

    def __init__(self, directory: Path, url: str, tokens: Mapping[str, str]) -> None:
        self.directory = directory
        self.url = url
        self.certificate = directory / "ca.crt"
        self.tokens = tokens
        self.api = Api(url, self.certificate, tokens["admin"])
        self.kubeconfig = self.kubeconfig_of("admin")

    def kubeconfig_of(self, user: str, *, token: str | None = None) -> Path:
        """Write a kubeconfig file for a user."""
        path = self.directory / f"{user.rpartition(':')[2]}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token or self.tokens[user]}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.write_text(yaml.safe_dump(content))
        return path

    def apply(self, file: Path) -> None:
        """Create the objects in a file, save those that are there."""
        for document in yaml.safe_load_all(file.read_text()):
            self.create(document)

    def create(self, document: Mapping[str, Any]) -> None:
        """Create an object, if it is not there."""
        group, _, version = document["apiVersion"].rpartition("/")
        base = f"/apis/{group}/{version}" if group else f"/api/{version}"
        namespace = document["metadata"].get("namespace")
        place = f"/namespaces/{namespace}" if namespace else ""
        path = f"{base}{place}/{document['kind'].lower()}s"
        if not self.api("GET", f"{path}/{document['metadata']['name']}"):
            self.api("POST", path, document)

    def namespace(self, name: str) -> None:
        """Create a namespace, if it is not there."""
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def define_miniclusters(self) -> None:
        """Create the definition of MiniClusters, and wait until it can be used."""
        self.apply(Path(__file__).parent / "minicluster-crd.yaml")
        path = "/apis/flux-framework.org/v1alpha2/miniclusters"
        wait_until(lambda: self.api("GET", path), "MiniClusters can be listed")

    def managed(self) -> Iterator[tuple[str, str]]:
        """Yield the path, and the kind and name, of each object that fluxburst made."""
        for group, kind in (
            ("/apis/flux-framework.org/v1alpha2", "miniclusters"),
            ("/apis/batch/v1", "jobs"),
            ("/api/v1", "pods"),
            ("/api/v1", "secrets"),
        ):
            for one in self.api.items(f"{group}/{kind}", labelSelector=MANAGED):
                name = f"{kind}/{one['metadata']['name']}"
                yield f"{group}/namespaces/{one['metadata']['namespace']}/{name}", name

    def clear(self) -> None:
        """Delete what a test left, which others would take for theirs."""
        for path, _ in self.managed():
            self.api("DELETE", path, gracePeriodSeconds="0", propagationPolicy="Background")


def wait_until(condition: Any, what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so, or fail."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"it did not come to be that {what}")
        time.sleep(0.1)


def make_certificates(directory: Path, *, identified: bool = True) -> None:
    """Make an authority, the server's certificate, and a key for service accounts' tokens.

    Certificates that do not identify their authority are refused by Python 3.13 unless told not to.
    """
    identifiers = "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    if not identified:
        identifiers = "authorityKeyIdentifier=none\nsubjectKeyIdentifier=none\n"
    new = "req -newkey rsa:2048 -nodes"
    (directory / "names").write_text(
        f"subjectAltName=IP:127.0.0.1,DNS:localhost,IP:10.0.0.1\n{identifiers}"
    )
    for command in (
        f"{new} -x509 -days 2 -keyout ca.key -out ca.crt -subj /CN=ca "
        "-addext keyUsage=critical,keyCertSign,cRLSign",
        f"{new} -keyout server.key -out server.csr -subj /CN=kube-apiserver",
        "x509 -req -in server.csr -out server.crt -CA ca.crt -CAkey ca.key -CAcreateserial "
        "-extfile names -days 2",
        "genrsa -out accounts.key 2048",
    ):
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )


def _start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


@contextmanager
def api_server(folder: Path, directory: Path, more: Sequence[str] = ()) -> Iterator[Server]:
    """Start an API server with nothing in it, and end it.

    Args:
        folder: Where the programs are.
        directory: A directory of its own.
        more: More options of kube-apiserver.
    """
    directory.chmod(0o700)
    make_certificates(directory)
    tokens = {user: secrets.token_hex(16) for user in ("admin", RESTRICTED, NOBODY)}
    groups = {"admin": '"system:masters"'}
    lines = [f"{t},{user},{user},{groups.get(user, '')}" for user, t in tokens.items()]
    (directory / "tokens.csv").write_text("\n".join(lines) + "\n")
    port, client_port, peer_port = free_port(), free_port(), free_port()
    store = f"http://127.0.0.1:{client_port}"
    processes = [
        _start(
            [
                str(folder / "etcd"),
                f"--data-dir={directory / 'etcd'}",
                f"--listen-client-urls={store}",
                f"--advertise-client-urls={store}",
                f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
                "--unsafe-no-fsync",
            ],
            directory / "etcd.log",
        )
    ]
    try:
        options = [*_server_options(directory, port, store), *more]
        processes.append(_start([str(folder / "kube-apiserver"), *options], directory / "api.log"))
        server = Server(directory, f"https://127.0.0.1:{port}", tokens)
        try:
            wait_until(server.api.ready, f"the API server is ready: {directory / 'api.log'}")
            yield server
        finally:
            server.api.close()
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=60)


def _server_options(directory: Path, port: int, store: str) -> list[str]:
    accounts = directory / "accounts.key"
    return [
        f"--etcd-servers={store}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={directory / 'server.crt'}",
        f"--tls-private-key-file={directory / 'server.key'}",
        f"--client-ca-file={directory / 'ca.crt'}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://localhost",
        f"--service-account-key-file={accounts}",
        f"--service-account-signing-key-file={accounts}",
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
    ]
