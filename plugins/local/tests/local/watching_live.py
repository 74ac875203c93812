"""The service on a live elastic instance: jobs come, nodes come and go, and it is killed.

``python watching_live.py DIRECTORY --minutes 10`` does it for so long; a test does it for less.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.elastic_instance import wait_until
from tests.local.growing import Growing, growing

BURST_NODES = 4
KILLS = 3
POLICY = """
[lifetimes]
idle_timeout = "2s"
lease = "2m"
teardown = "30s"

[watch]
poll = "5s"
"""


class Watched:
    """An elastic instance with a service that watches it.

    Args:
        instance: The instance.
        state: The state directory.
        log: Where what the service says is appended.
    """

    def __init__(self, instance: Growing, state: Path, log: Path) -> None:
        self._instance = instance
        self._state = state
        self._log = log
        self._config = instance.directory / "fluxburst.toml"
        self._config.write_text(self._config.read_text() + POLICY)
        self._service: subprocess.Popen[str] | None = None

    def _command(self, *arguments: str) -> list[str]:
        options = ["--config", str(self._config), "--state-dir", str(self._state)]
        return [sys.executable, "-m", "fluxburst", *options, *arguments]

    def start(self) -> None:
        with self._log.open("a") as log:
            self._service = subprocess.Popen(
                self._command("watch", "-v"),
                env={**os.environ, "FLUX_URI": self._instance.flux.uri},
                stderr=log,
                text=True,
            )

    def kill(self) -> None:
        assert self._service is not None
        self._service.kill()
        self._service.wait()

    def stop(self) -> int:
        assert self._service is not None
        self._service.send_signal(signal.SIGTERM)
        return self._service.wait(timeout=60)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*arguments),
            env={**os.environ, "FLUX_URI": self._instance.flux.uri},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def ledger(self) -> list[dict[str, Any]]:
        shown = self.run("ledger", "--all", "--format", "json")
        assert shown.returncode == 0, shown.stderr
        bursts: list[dict[str, Any]] = json.loads(shown.stdout)
        return bursts


def watch(directory: Path, seconds: float, *, seed: int = 1) -> dict[str, Any]:
    """Submit jobs for so long, and kill the service on the way; return what there is to judge."""
    chance = random.Random(seed)
    with growing(directory / "instance", f"--burst-nodes={BURST_NODES}") as instance:
        watched = Watched(instance, directory / "state", directory / "watch.log")
        watched.start()
        started = time.monotonic()
        kills = [started + seconds * (number + 1) / (KILLS + 1) for number in range(KILLS)]
        jobs: list[int] = []
        while (now := time.monotonic()) < started + seconds:
            if kills and now >= kills[0]:
                kills.pop(0)
                watched.kill()
                watched.start()
            nodes, runs = chance.randint(1, BURST_NODES), chance.uniform(0.1, 2.0)
            jobs.append(instance.submit(f"-N{nodes}", "sleep", f"{runs:.1f}"))
            time.sleep(min(chance.choice([0.0, 0.2, 1.0, seconds / 6]), seconds / 6))
        wait_until(lambda: instance.flux("jobs", "-no", "{id}") == "", "all jobs have ended")
        wait_until(lambda: not instance.left_over(), "all nodes have gone by themselves")
        wait_until(lambda: all(b["ended"] for b in watched.ledger()), "the ledger has the ends")
        status = watched.stop()
        verified = watched.run("unburst", "--all", "--verify")
        results = instance.flux("jobs", "-a", "-no", "{result}").split()
        return {
            "jobs": len(jobs),
            "results": sorted(set(results)),
            "status": status,
            "verified": verified.returncode,
            "said": verified.stdout + verified.stderr,
            "bursts": [f"{burst['state']}" for burst in watched.ledger()],
            "left": instance.left_over(),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    story = watch(given.directory, given.minutes * 60)
    print(json.dumps(story, indent=2))
    good = story["results"] == ["COMPLETED"] and not story["verified"] and not story["left"]
    sys.exit(0 if good and story["status"] == 0 else 1)


if __name__ == "__main__":
    main()
