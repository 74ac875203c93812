"""A process that is killed at any request: the next one finds what it left, and nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.compute_engine.fake_compute import REGION, Site
from tests.compute_engine.sites import burst, plugin_of

ACTING = """
import json, os, sys
import fluxburst_compute_engine.cloud
from fluxburst import FluxBurst
from fluxburst.config.file import Config
from tests.compute_engine.sites import burst

def act(table, do):
    client = FluxBurst(mock=True, config=Config(plugins={"compute_engine": table}))
    client.load("compute_engine")
    getattr(client.plugins["compute_engine"], do)(burst())

for line in sys.stdin:
    child = os.fork()
    if not child:
        act(*json.loads(line))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
pytestmark = pytest.mark.long

MOST_REQUESTS = 40
READS = ("get", "list", "aggregatedList")


class Acting:
    """Processes that make or delete a burst, each killed at one of its requests.

    They are forked from one that has imported everything, which takes longer than they do.
    ``passed_over`` is how methods begin that are not counted.
    """

    def __init__(
        self,
        site: Site,
        elastic: Path,
        process: subprocess.Popen[str],
        passed_over: tuple[str, ...],
    ) -> None:
        self.site, self.process, self.passed_over = site, process, passed_over
        self.table = {**site.parameters, "config_dir": str(elastic), "compact_placement": True}

    def _counts(self, call: str) -> bool:
        return not call.partition(".")[2].startswith(self.passed_over)

    def killed_at(self, request: int, do: str) -> bool:
        """Run one; whether it was killed, and not through before that."""
        first = len(self.site.requests)
        child: list[int] = []
        born, dead = threading.Event(), threading.Event()

        def kill(number: int) -> None:
            counted = [self._counts(call) for call in self.site.requests[first:number]]
            if counted[-1] and sum(counted) == request:
                assert born.wait(60)
                os.kill(child[0], signal.SIGKILL)
                assert dead.wait(60)

        self.site.after = kill
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([self.table, do]), file=self.process.stdin, flush=True)
        child.append(int(self.process.stdout.readline()))
        born.set()
        code = int(self.process.stdout.readline())
        dead.set()
        self.site.after = lambda number: None
        assert code in (0, -signal.SIGKILL)
        return code != 0


@pytest.fixture(params=[READS, pytest.param((), marks=pytest.mark.soak)], ids=["change", "request"])
def acting(site: Site, elastic: Path, request: pytest.FixtureRequest) -> Iterator[Acting]:
    """Processes that act on the project, killed at each request that changes something, or each."""
    with subprocess.Popen(
        [sys.executable, "-c", ACTING],
        env={**os.environ, **site.environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Acting(site, elastic, process, request.param)


def test_a_creation_that_is_killed_anywhere_leaves_nothing_that_is_not_found(
    site: Site, elastic: Path, acting: Acting
) -> None:
    site.full = {f"{REGION}-a"}
    for request in range(1, MOST_REQUESTS):
        killed = acting.killed_at(request, "create")
        plugin = plugin_of(site, elastic, compact_placement=True)
        plugin.delete(burst())
        site.settle()
        assert site.left() == []
        assert plugin.list_bursts() == []
        if not killed:
            assert request > 3
            return
    raise AssertionError("it never came to its end")


def test_a_creation_that_was_killed_anywhere_is_gone_on_with(
    site: Site, elastic: Path, acting: Acting
) -> None:
    for request in range(1, MOST_REQUESTS):
        killed = acting.killed_at(request, "create")
        plugin = plugin_of(site, elastic, compact_placement=True)
        made = plugin.create(burst())
        assert len(made.hostnames) == 2
        assert sorted(name for _, name in site.machines) == list(made.hostnames)
        assert plugin.list_bursts() == [made.name]
        plugin.delete(made)
        assert site.left() == []
        if not killed:
            return
    raise AssertionError("it never came to its end")


def test_a_deletion_that_is_killed_anywhere_is_gone_on_with(
    site: Site, elastic: Path, acting: Acting
) -> None:
    for request in range(1, MOST_REQUESTS):
        plugin = plugin_of(site, elastic, compact_placement=True)
        made = plugin.create(burst())
        killed = acting.killed_at(request, "delete")
        # What is left is found: a burst that nothing lists has left nothing behind.
        left = site.left()
        assert bool(plugin.list_bursts()) == bool(left)
        plugin.delete(made)
        assert site.left() == []
        if not killed:
            assert request > 2
            return
    raise AssertionError("it never came to its end")
