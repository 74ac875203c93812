"""A process that is killed at any request that changes something: the next one finds what it left.

Killed at one that changes nothing, or before one that does, it leaves what it leaves after the one
before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kubernetes.apiserver import Server, wait_until
from tests.kubernetes.flux_operator import FluxOperator
from tests.kubernetes.servers import CHANGES, between, kubeconfig
from tests.kubernetes.sites import burst, plugin_of, write_site
from tests.kubernetes.test_clusters import objects

pytestmark = pytest.mark.kubernetes

CHILD = """
import sys
from fluxburst import FluxBurst
from fluxburst.config.file import Config
from tests.kubernetes.sites import burst
_, kubeconfig, directory, namespace, do = sys.argv
written = {"kubeconfig": kubeconfig, "config_dir": directory, "namespace": namespace}
written |= {"name": "burst-[0-1]", "poll_interval": 0.02}
client = FluxBurst(mock=True, config=Config(plugins={"kubernetes": written}))
client.load("kubernetes")
getattr(client.plugins["kubernetes"], do)(burst())
"""
MOST_REQUESTS = 40


class Child:
    """A process that makes or deletes a burst, and is killed at one of its requests."""

    def __init__(self, server: Server, site: Path, namespace: str, do: str) -> None:
        self.server, self.site, self.namespace, self.do = server, site, namespace, do

    def killed_at(self, request: int) -> bool:
        """Run it; whether it was killed, and not through before that."""
        process: list[subprocess.Popen[bytes]] = []

        def kill(number: int) -> None:
            if number == request:
                process[0].kill()
                process[0].wait()

        with between(self.server, lambda _: None, kill, counted=CHANGES) as url:
            token = self.server.tokens["admin"]
            config = kubeconfig(self.site.parent / "between", url, token)
            arguments = [str(config), str(self.site), self.namespace, self.do]
            process.append(
                subprocess.Popen(
                    [sys.executable, "-c", CHILD, *arguments],
                    cwd=Path(__file__).parent,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            )
            code = process[0].wait(timeout=60)
        assert code in (0, -9)
        return code != 0


def test_a_creation_that_is_killed_anywhere_leaves_nothing_that_is_not_found(
    server: Server, operator: FluxOperator, tmp_path: Path, namespace: str
) -> None:
    site = write_site(tmp_path / "elastic")
    child = Child(server, site, namespace, "create")
    for request in range(1, MOST_REQUESTS):
        killed = child.killed_at(request)
        plugin = plugin_of(server, site, namespace=namespace)
        there = cluster_names(server, namespace)
        adopted = plugin.adopt()
        assert len(there) == len(adopted) == len(plugin.list_bursts()) <= 1
        if there:
            wait_until(lambda: len(objects(server, namespace)) >= 5, "its pods are there")
        plugin.delete(adopted[0] if adopted else burst())
        assert objects(server, namespace) == []
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")


def test_a_deletion_that_is_killed_anywhere_is_gone_on_with(
    server: Server, operator: FluxOperator, tmp_path: Path, namespace: str
) -> None:
    site = write_site(tmp_path / "elastic")
    child = Child(server, site, namespace, "delete")
    for request in range(1, MOST_REQUESTS):
        plugin = plugin_of(server, site, namespace=namespace)
        made = plugin.create(burst())
        wait_until(lambda: len(objects(server, namespace)) == 1 + 1 + 2 + 1, "its pods are there")
        killed = child.killed_at(request)
        plugin.delete(made)
        assert objects(server, namespace) == []
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")


def cluster_names(server: Server, namespace: str) -> list[str]:
    """Return the MiniClusters that are there."""
    path = f"/apis/flux-framework.org/v1alpha2/namespaces/{namespace}/miniclusters"
    return [one["metadata"]["name"] for one in server.api.items(path)]
