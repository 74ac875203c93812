"""A process that is killed at any request that changes something, at AWS or in the cluster.

Killed at one that changes nothing, or before one that does, it leaves what it leaves after the one
before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.eks.instances import burst, parameters_of, plugin_of, write_eks_site
from tests.eks.sites import CLUSTER_ROLE, Site
from tests.kubernetes.apiserver import Server
from tests.kubernetes.flux_operator import FluxOperator
from tests.kubernetes.servers import CHANGES, between
from tests.kubernetes.test_clusters import objects

pytestmark = [pytest.mark.kubernetes, pytest.mark.soak]

CHILD = """
import json
import sys
from fluxburst import FluxBurst
from fluxburst.config.file import Config
from tests.eks.instances import burst
client = FluxBurst(mock=True, config=Config(plugins={"eks": json.loads(sys.argv[1])}))
client.load("eks")
getattr(client.plugins["eks"], sys.argv[2])(burst())
"""
MOST_REQUESTS = 40


class Child:
    """A process that makes or deletes a burst, and is killed at one of its requests."""

    def __init__(self, site: Site, directory: Path, do: str, **parameters: Any) -> None:
        self.site, self.directory, self.do, self.parameters = site, directory, do, parameters
        self.count = 0
        self.process: subprocess.Popen[bytes] | None = None

    def killed_at(self, request: int) -> bool:
        """Run it; whether it was killed, and not through before that."""
        self.count = 0

        def changed() -> None:
            self.count += 1
            if self.count == request:
                assert self.process is not None
                self.process.kill()
                self.process.wait()

        def asked(operation: str) -> None:
            if not operation.startswith(("Describe", "List", "Get")):
                changed()

        server = self.site.server
        with between(server, lambda _: None, lambda _: changed(), counted=CHANGES) as url:
            self.site.after = asked
            self.site.move_server(url)
            written = parameters_of(self.site, self.directory, **self.parameters)
            self.process = subprocess.Popen(
                [sys.executable, "-c", CHILD, json.dumps(written), self.do],
                cwd=Path(__file__).parent,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            code = self.process.wait(timeout=90)
        self.site.after = lambda _: None
        self.site.move_server("")
        assert code in (0, -9)
        return code != 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_eks_site(tmp_path / "elastic")


@pytest.mark.parametrize("makes_cluster", [False, True], ids=["pool", "cluster"])
def test_a_creation_that_is_killed_anywhere_leaves_nothing_that_is_not_found(
    eks_server: Server,
    site: Site,
    eks_operator: FluxOperator,
    directory: Path,
    space: str,
    makes_cluster: bool,
) -> None:
    own: dict[str, Any] = {"namespace": space}
    if makes_cluster:
        own |= {"create_cluster": True, "keep_cluster": False, "cluster_role_arn": CLUSTER_ROLE}
        own["subnets"] = site.subnets
        site._eks.clusters.clear()
    child = Child(site, directory, "create", **own)
    for request in range(1, MOST_REQUESTS):
        killed = child.killed_at(request)
        plugin = plugin_of(site, directory, **own)
        adopted = plugin.adopt()
        assert len(adopted) <= 1
        assert bool(adopted) == bool(site.left_at_aws())
        plugin.delete(adopted[0] if adopted else burst())
        assert (site.left(), plugin.list_bursts(), objects(eks_server, space)) == ([], [], [])
        plugin.aws.close()
        if not killed:
            assert request > 3
            return
    raise AssertionError("it never came to its end")


def test_a_deletion_that_is_killed_anywhere_is_gone_on_with(
    eks_server: Server,
    site: Site,
    eks_operator: FluxOperator,
    directory: Path,
    space: str,
) -> None:
    child = Child(site, directory, "delete", namespace=space)
    for request in range(1, MOST_REQUESTS):
        plugin = plugin_of(site, directory, namespace=space)
        made = plugin.create(burst())
        killed = child.killed_at(request)
        left = plugin.list_bursts()
        assert not killed or bool(left) == bool(site.left_at_aws())
        plugin.delete(made)
        assert (site.left(), plugin.list_bursts(), objects(eks_server, space)) == ([], [], [])
        plugin.aws.close()
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("do", ["create", "delete"])
def test_an_existing_node_group_gets_its_size_back_wherever_it_was_left(
    site: Site, eks_operator: FluxOperator, directory: Path, space: str, do: str
) -> None:
    site.add_group("shared", 3)
    before = dict(site.group("shared").scaling_config)
    own: dict[str, Any] = {"namespace": space, "node_pool": "shared"}
    child = Child(site, directory, do, **own)
    for request in range(1, MOST_REQUESTS):
        plugin = plugin_of(site, directory, **own)
        if do == "delete":
            plugin.create(burst())
        killed = child.killed_at(request)
        for found in plugin.adopt() or [burst()]:  # which the ledger knows of
            plugin.delete(found)
        assert (site.left(), site.group("shared").scaling_config) == ([], before)
        plugin.aws.close()
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")
