"""A live elastic instance with guests, for tests: who owns it, who is a guest, and a MUNGE daemon.

It needs root, and a Flux whose multi-user mode is set up (``tests/site_flux.py``): the owner is the
user that the IMP allows to run jobs, the guest is nobody. No user is made, and what is started is
ended. The Python is the one that Flux itself was built for, since all users can run it.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.elastic_instance import free_port, wait_until
from tests.site_flux import flux_with_guests, imp_of, path_with

import fluxburst
import fluxburst_local

GUEST = "nobody"


def owner() -> str:
    """Return the user that the IMP lets run jobs of others; there is one at most in its table."""
    return str(_configured("imp", "exec")["allowed-users"][0])


def _configured(what: str, table: str) -> dict[str, Any]:
    done = subprocess.run(
        [flux_with_guests(), "config", "get", f"--config-path={what}", table],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class User:
    """What one user of this machine can run, in the instance where there is one."""

    def __init__(self, name: str, home: Path) -> None:
        self.name, self.home = name, home
        self.uri = ""
        home.mkdir(mode=0o755)
        shutil.chown(home, name)

    @property
    def environment(self) -> dict[str, str]:
        """An environment of this user, with fluxburst to be found by Flux's Python."""
        packages = (Path(fluxburst.__file__).parents[1], Path(fluxburst_local.__file__).parents[1])
        installed = [path for path in sys.path if path.endswith("-packages")]
        places = [*map(str, packages), sysconfig.get_path("purelib"), *installed]
        return {
            "PATH": path_with(flux_with_guests()),
            "SHELL": "/bin/sh",
            "HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(filter(None, places)),
            "PYTHONDONTWRITEBYTECODE": "1",
            **({"FLUX_URI": self.uri} if self.uri else {}),
        }

    def command(self, *arguments: str) -> list[str]:
        """Return a command as this user."""
        account = pwd.getpwnam(self.name)
        as_user = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return ["setpriv", *as_user, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as this user."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def flux(self, *arguments: str) -> str:
        """Run a flux command as this user and return what it printed."""
        done = self.run("flux", *arguments)
        assert done.returncode == 0, f"flux {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def fluxburst(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run fluxburst's command line as this user."""
        return self.run("flux", "python", "-m", "fluxburst", *arguments)


class Site:
    """A running instance with its owner, a guest, and root."""

    def __init__(self, directory: Path, owner: User, guest: User, root: User) -> None:
        self.directory = directory
        self.owner, self.guest, self.root = owner, guest, root

    def burst(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run fluxburst as the owner, with the instance's configuration."""
        config = str(self.directory / "fluxburst.toml")
        return self.owner.fluxburst("--config", config, *arguments)


@contextmanager
def multi_user_site(*, root_is_owner: bool, private: bool, imp: bool = True) -> Iterator[Site]:
    """Make an elastic instance with two burst nodes that allows guests, run it, and end it."""
    # Not below pytest's own directory, which is for its user alone.
    with tempfile.TemporaryDirectory(prefix="fluxburst-guests-") as made, _munge():
        place = Path(made)
        place.chmod(0o755)
        users = [User(name, place / name) for name in (owner(), GUEST, "root")]
        directory = place / owner() / "elastic"
        more = place / "more.toml"
        more.write_text(
            "[access]\nallow-guest-user = true\n"
            f"allow-root-owner = {str(root_is_owner).lower()}\n"
            f"private-mode = {str(private).lower()}\n"
            + (f'[exec]\nimp = "{imp_of(flux_with_guests())}"\n' if imp else "")
        )
        init = ["local", "init", str(directory), "--burst-nodes=2", "--cores=2"]
        done = users[0].fluxburst(*init, f"--port={free_port()}", f"--config-file={more}")
        assert done.returncode == 0, done.stderr
        start = ["flux", "python", "-m", "fluxburst", "local", "start", str(directory), "--"]
        lead = subprocess.Popen(
            users[0].command(*start, "sh", "-c", 'echo "$FLUX_URI"; exec cat'),
            env=users[0].environment,
            cwd=users[0].home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert lead.stdout is not None
        try:
            uri = lead.stdout.readline().strip()
            assert uri, f"the lead did not start: {lead.communicate()[1]}"
            for user in users:
                user.uri = uri
            site = Site(directory, *users)
            yield site
            site.burst("unburst", "--all")
        finally:
            lead.communicate(timeout=60)


@contextmanager
def _munge() -> Iterator[None]:
    """Have a MUNGE daemon where flux-security looks for one: the one there is, or one for now."""
    munge = _configured("security", "sign").get("munge")
    named = munge.get("socket-path") if isinstance(munge, dict) else None
    socket = [f"--socket={named}"] if named else []
    if subprocess.run(["munge", "-n", *socket], capture_output=True, check=False).returncode == 0:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="fluxburst-munge-") as place:
        key = Path(place) / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        if named:
            Path(named).parent.mkdir(exist_ok=True)
        files = [f"--{what}-file={place}/{what}" for what in ("pid", "log", "seed")]
        daemon = subprocess.Popen(
            ["munged", "--foreground", "--force", f"--key-file={key}", *files, *socket],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            check = ["munge", "-n", *socket]
            wait_until(
                lambda: not subprocess.run(check, capture_output=True, check=False).returncode,
                "munged answers",
                30,
            )
            yield
        finally:
            daemon.terminate()
            daemon.wait(30)
