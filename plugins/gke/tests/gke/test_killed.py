"""A process that is killed at any request that changes something, at Google or in the cluster.

Killed at one that changes nothing, or before one that does, it leaves what it leaves after the one
before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gke.sites import Site
from tests.gke.test_plugin import SLOTS, burst, gke_plugin, write_gke_site
from tests.kubernetes.apiserver import wait_until
from tests.kubernetes.servers import CHANGES, between

pytestmark = [pytest.mark.kubernetes, pytest.mark.soak]

CHILD = """
import sys
from pathlib import Path
from tests.gke.test_plugin import burst
from fluxburst import FluxBurst
from fluxburst.config.file import load
client = FluxBurst(mock=True, validate=False, config=load(Path(sys.argv[1])))
client.load("gke")
getattr(client.plugins["gke"], sys.argv[2])(burst())
"""
MOST_REQUESTS = 40


class Child:
    """A process that makes or deletes a burst, and is killed at one of its requests."""

    def __init__(self, gke: Site, config: Path, do: str) -> None:
        self.gke, self.config, self.do = gke, config, do

    def killed_at(self, request: int) -> bool:
        """Run it; whether it was killed, and not through before that."""
        process: list[subprocess.Popen[bytes]] = []
        count = 0

        def changed() -> None:
            nonlocal count
            count += 1
            if count == request:
                process[0].kill()
                process[0].wait()

        def asked(method: str, number: int) -> None:
            if not method.startswith(("Get", "List")):
                changed()

        server = self.gke.server
        with between(
            server, lambda _: None, lambda _: changed(), counted=CHANGES, keys=server.directory
        ) as url:
            self.gke.after = asked
            self.gke.move_server(url)
            path = os.pathsep.join(p for p in sys.path if p)
            environment = {**os.environ, "PYTHONPATH": path}
            command = [sys.executable, "-c", CHILD, str(self.config), self.do]
            process.append(subprocess.Popen(command, env=environment))
            code = process[0].wait(timeout=120)
        self.gke.after = lambda method, number: None
        self.gke.move_server(server.url)
        assert code in (0, -9)
        return code != 0


def written(gke: Site, site: Path, namespace: str) -> Path:
    """Write a configuration for a process of its own."""
    values = {"config_dir": str(site), "name": SLOTS, "namespace": namespace, **gke.parameters}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    config = site.parent / "fluxburst.toml"
    config.write_text("\n".join(["[plugins.gke]", *lines]) + "\n")
    return config


def miniclusters(gke: Site, namespace: str) -> list[str]:
    """Return the MiniClusters that are there."""
    path = f"/apis/flux-framework.org/v1alpha2/namespaces/{namespace}/miniclusters"
    return [one["metadata"]["name"] for one in gke.server.api.items(path)]


def pods(gke: Site, namespace: str) -> int:
    """Return how many pods there are."""
    return len(gke.server.api.items(f"/api/v1/namespaces/{namespace}/pods"))


def test_a_creation_that_is_killed_anywhere_leaves_nothing_that_is_not_found(
    gke: Site, tmp_path: Path, namespace: str
) -> None:
    site = write_gke_site(tmp_path / "elastic")
    child = Child(gke, written(gke, site, namespace), "create")
    for request in range(1, MOST_REQUESTS):
        killed = child.killed_at(request)
        plugin = gke_plugin(gke, site, namespace=namespace)
        there = gke.pool(burst().name) is not None or bool(miniclusters(gke, namespace))
        adopted = plugin.adopt()
        assert [one.name for one in adopted] == plugin.list_bursts() == [burst().name] * there
        plugin.delete(adopted[0] if adopted else burst())
        assert gke.left() == []
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")


def test_a_deletion_that_is_killed_anywhere_is_gone_on_with(
    gke: Site, tmp_path: Path, namespace: str
) -> None:
    site = write_gke_site(tmp_path / "elastic")
    child = Child(gke, written(gke, site, namespace), "delete")
    for request in range(1, MOST_REQUESTS):
        plugin = gke_plugin(gke, site, namespace=namespace)
        made = plugin.create(burst())
        wait_until(lambda: pods(gke, namespace) == 2, "its pods are there")
        killed = child.killed_at(request)
        again = gke_plugin(gke, site, namespace=namespace)
        pool = [burst().name] if gke.pool(burst().name) is not None else []
        assert again.list_bursts() == pool
        again.delete(made)
        assert gke.left() == []
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")
