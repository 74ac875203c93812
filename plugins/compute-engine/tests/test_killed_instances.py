"""A process that is killed at any request: the next one finds what it left, and nothing stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from compute_sites import burst, plugin_of
from fake_compute import REGION, Site

CHILD = """
import json, sys
from fluxburst import FluxBurst
from fluxburst.config import Config
from compute_sites import burst
_, table, do = sys.argv
client = FluxBurst(mock=True, config=Config(plugins={"compute_engine": json.loads(table)}))
client.load("compute_engine")
getattr(client.plugins["compute_engine"], do)(burst())
"""
MOST_REQUESTS = 40


class Child:
    """A process that makes or deletes a burst, and is killed at one of its requests."""

    def __init__(self, site: Site, elastic: Path, do: str) -> None:
        self.site, self.do = site, do
        self.table = {**site.parameters, "config_dir": str(elastic), "compute_compact": True}

    def killed_at(self, request: int, *, answered: bool) -> bool:
        """Run it; whether it was killed, and not through before that."""
        first = len(self.site.requests)
        process: list[subprocess.Popen[bytes]] = []

        def kill(number: int) -> None:
            if number - first == request:
                process[0].kill()
                process[0].wait()

        if answered:
            self.site.after = kill
        else:
            self.site.before = kill
        process.append(
            subprocess.Popen(
                [sys.executable, "-c", CHILD, json.dumps(self.table), self.do],
                cwd=Path(__file__).parent,
                env={**os.environ, **self.site.environment},
            )
        )
        code = process[0].wait(timeout=60)
        self.site.before = self.site.after = lambda number: None
        assert code in (0, -9)
        return code != 0


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_creation_that_is_killed_anywhere_leaves_nothing_that_is_not_found(
    site: Site, elastic: Path, answered: bool
) -> None:
    site.full = {f"{REGION}-a"}
    child = Child(site, elastic, "create")
    for request in range(1, MOST_REQUESTS):
        killed = child.killed_at(request, answered=answered)
        plugin = plugin_of(site, elastic, compute_compact=True)
        plugin.delete(burst())
        site.settle()
        assert site.left() == []
        assert plugin.list_bursts() == []
        if not killed:
            assert request > 8
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_creation_that_was_killed_anywhere_is_gone_on_with(
    site: Site, elastic: Path, answered: bool
) -> None:
    child = Child(site, elastic, "create")
    for request in range(1, MOST_REQUESTS):
        killed = child.killed_at(request, answered=answered)
        plugin = plugin_of(site, elastic, compute_compact=True)
        made = plugin.create(burst())
        assert len(made.hostnames) == 2
        assert [name for _, name in site.machines] == list(made.hostnames)
        assert plugin.list_bursts() == [made.name]
        plugin.delete(made)
        assert site.left() == []
        if not killed:
            return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_deletion_that_is_killed_anywhere_is_gone_on_with(
    site: Site, elastic: Path, answered: bool
) -> None:
    child = Child(site, elastic, "delete")
    for request in range(1, MOST_REQUESTS):
        plugin = plugin_of(site, elastic, compute_compact=True)
        made = plugin.create(burst())
        killed = child.killed_at(request, answered=answered)
        # What is left is found: a burst that nothing lists has left nothing behind.
        left = site.left()
        assert bool(plugin.list_bursts()) == bool(left)
        plugin.delete(made)
        assert site.left() == []
        if not killed:
            assert request > 6
            return
    raise AssertionError("it never came to its end")
