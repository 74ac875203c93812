"""A node for tests, whose kubelet tells the logs of containers and does nothing else.

The API server asks the kubelet of a pod's node, as ``pkg/registry/core/pod/strategy.go`` has it:
``GET /containerLogs/NAMESPACE/POD/CONTAINER``.
"""

from __future__ import annotations

import itertools
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.kubernetes.apiserver import Api
from tests.kubernetes.servers import Reply, serving

_numbers = itertools.count()

Log = Callable[[str, str, bool], "bytes | None"]
"""Returns what a pod wrote, by its namespace and its name, and whether before its last start; None
to have the kubelet not answer."""


@contextmanager
def kubelet(api: Api, log: Log) -> Iterator[str]:
    """Register a node, and answer for it as long as it is there; its name."""

    def answer(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        parts = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        _, kind, namespace, pod, container = parts.path.split("/")
        if (method, kind) != ("GET", "containerLogs") or not pod.startswith(f"{container}-"):
            return 404, b"404 page not found", {}
        wrote = log(namespace, pod, query.get("previous") == "true")
        if wrote is None:
            return None
        return 200, wrote[: int(query.get("limitBytes", len(wrote)))], {}

    with serving(answer, api.keys) as url:
        name = f"node-{next(_numbers)}"
        port = urllib.parse.urlsplit(url).port
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            },
        }
        api("POST", "/api/v1/nodes", node)
        try:
            yield name
        finally:
            api("DELETE", f"/api/v1/nodes/{name}")
