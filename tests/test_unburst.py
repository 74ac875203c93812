"""The command unburst where it is interrupted, or cannot record what it does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.elastic_instance import wait_until
from tests.support import named

MakePackage = Callable[..., str]

# Its machines are files. One whose name ends in "keep" is not deleted; where there is a file
# "slow-delete" or "slow-list", that takes for ever once something was deleted.
CLOUD = """
import os, time
from dataclasses import replace
from pathlib import Path
from fluxburst import BurstParameters, BurstPlugin, BurstState, NodeType, PluginType, hookimpl
from fluxburst.errors import BurstError

THERE = Path(os.environ["CLOUD"])

class Cloud(BurstPlugin):
    name = "cloud"

    def node_types(self):
        return (NodeType("node", 64, price=0.5),)

    def create(self, burst):
        (THERE / burst.name).touch()
        return replace(burst, state=BurstState.READY)

    def delete(self, burst):
        if (THERE / "slow-delete").exists():
            self.wait()
        if burst.name == os.environ.get("KEPT"):
            raise BurstError("it is protected")
        (THERE / burst.name).unlink(missing_ok=True)
        (THERE / "deleted").touch()

    def list_bursts(self):
        if (THERE / "slow-list").exists() and (THERE / "deleted").exists():
            self.wait()
        return [path.name for path in THERE.iterdir() if self.owns(path.name)]

    def wait(self):
        (THERE / "waits").touch()
        time.sleep(600)

@hookimpl
def fluxburst_register_plugins():
    return [PluginType("cloud", BurstParameters, Cloud)]
"""

ONE, TWO = (named("cloud", number, "embedded") for number in (1, 2))


class Site:
    """A directory with a ledger, and one with two bursts."""

    def __init__(self, directory: Path) -> None:
        self.cloud, self.state = directory / "cloud", directory / "state"
        self.cloud.mkdir()
        self.environment = {
            **os.environ,
            "CLOUD": str(self.cloud),
            "PYTHONPATH": str(directory / "site"),
        }
        for _ in range(2):
            assert self.run("run", "--nodes", "1", "--wait", "0").returncode == 0
        assert self.there() == [ONE, TWO]

    def there(self) -> list[str]:
        return sorted(path.name for path in self.cloud.glob("cloud-*"))

    def command(self, *arguments: str) -> list[str]:
        at = ("--mock", "--plugin", "cloud", "--state-dir", str(self.state))
        return [sys.executable, "-m", "fluxburst", *arguments, *at]

    def run(self, *arguments: str, by: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*by, *self.command(*arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def interrupted(self, *arguments: str) -> tuple[int, str]:
        """Run a command until it waits, and interrupt it; return its status and what it says."""
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until((self.cloud / "waits").exists, "it waits")
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
            process.wait()
        return process.returncode, said


@pytest.fixture
def site(tmp_path: Path, make_package: MakePackage) -> Site:
    make_package("fluxburst_cloud", CLOUD)
    return Site(tmp_path)


@pytest.mark.parametrize("verify", [(), ("--verify",)])
def test_an_unburst_that_is_interrupted_says_what_stays(site: Site, verify: tuple[str]) -> None:
    (site.cloud / "slow-delete").touch()
    status, said = site.interrupted("unburst", "--all", *verify)
    assert status == 128 + signal.SIGINT
    both = f"2 bursts with 2 nodes remain and cost 1.00 an hour: {ONE}, {TWO}; "
    assert f"{both}to terminate them: " in said
    assert "nothing ends 2 of them automatically" in said
    assert said.endswith("fluxburst: interrupted\n")
    assert ("verification was incomplete" in said) is bool(verify)


def test_an_unburst_that_is_interrupted_while_it_verifies_says_what_stays(site: Site) -> None:
    (site.cloud / "slow-list").touch()
    site.environment["KEPT"] = TWO
    status, said = site.interrupted("unburst", "--all", "--verify")
    assert status == 128 + signal.SIGINT
    assert site.there() == [TWO]
    assert f"1 burst with 1 node remains and costs 0.50 an hour: {TWO}; to terminate them: " in said
    assert "verification was incomplete: run this command again" in said


def ordinary_user() -> list[str]:
    """Return what begins a command that may write only where an ordinary user may."""
    if os.getuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and there is no setpriv (util-linux)")
    mine = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={mine}", "--inh-caps=-all"]


@pytest.mark.parametrize("lock", ["as it was", "missing", "read-only"])
def test_unburst_ends_what_is_there_where_its_directory_cannot_be_written_and_says_so(
    site: Site, lock: str
) -> None:
    if lock == "missing":
        (site.state / "lock").unlink()
    if lock == "read-only":
        for path in site.state.iterdir():
            path.chmod(0o444)
    site.state.chmod(0o555)
    try:
        done = site.run("unburst", "--all", "--verify", by=ordinary_user())
    finally:
        site.state.chmod(0o755)
    assert site.there() == []
    assert done.returncode == 1
    assert f"Terminated: {ONE}, {TWO} Nothing is left." in done.stdout
    assert "cannot be written (" in done.stderr
    assert f"gone, but not recorded as gone: {ONE}, {TWO}: once it is writable" in done.stderr
    for path in site.state.iterdir():
        path.chmod(0o600)
    again = site.run("unburst", "--all")
    assert again.returncode == 0
    assert "bursts: 0" in site.run("status").stdout


def test_nothing_is_brought_up_where_the_directory_cannot_be_written(site: Site) -> None:
    site.state.chmod(0o555)
    try:
        done = site.run("run", "--nodes", "1", "--wait", "0", by=ordinary_user())
    finally:
        site.state.chmod(0o755)
    assert done.returncode == 1
    assert "ledger" in done.stderr
    assert site.there() == [ONE, TWO]


def test_unburst_waits_for_nobody_who_holds_the_instance_with_a_lock_that_cannot_be_written(
    site: Site,
) -> None:
    (site.cloud / "slow-delete").touch()
    holder = subprocess.Popen(
        site.command("unburst", "--all"),
        env=site.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((site.cloud / "waits").exists, "it waits")
        (site.state / "lock").chmod(0o444)
        site.state.chmod(0o555)
        done = site.run("unburst", "--all", by=ordinary_user())
        assert done.returncode == 2
        assert f"process {holder.pid}" in done.stderr
    finally:
        holder.kill()
        holder.wait()
        site.state.chmod(0o755)
