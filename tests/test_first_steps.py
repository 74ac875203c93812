"""The first steps of the README, typed as they stand, on a machine with Flux."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.elastic_instance import free_port, outside
from tests.live import running_flux
from tests.readmes import blocks
from tests.support import flux_available

from fluxburst import FluxBurst
from fluxburst.simulation.embedded import EmbeddedInstance

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROMPT = "typed> "
SECONDS = 60.0

SHELL = """#!/bin/sh
[ $# -gt 0 ] || set -- -i
exec bash --norc --noprofile "$@"
"""

live = pytest.mark.flux
needs_flux = pytest.mark.skipif(not flux_available(), reason="no Flux here")


class Terminal:
    """A terminal with a shell, and whoever types there."""

    def __init__(self, directory: Path, home: Path) -> None:
        scripts = str(Path(sys.executable).parent)
        shell = home / "shell"
        shell.write_text(SHELL)
        shell.chmod(0o755)
        environment = {
            **outside(),
            "PATH": os.pathsep.join([scripts, os.environ["PATH"]]),
            "PS1": PROMPT,
            "SHELL": str(shell),
            "HOME": str(home),
            "TERM": "dumb",
            "COLUMNS": "200",
        }
        environment.pop("PROMPT_COMMAND", None)
        self.child, self._file = pty.fork()
        if not self.child:
            os.chdir(directory)
            os.execve("/bin/sh", ["sh", str(shell)], environment)
        self.shown = ""
        self.until_prompt()

    def until_prompt(self) -> str:
        """Return what is shown until the next prompt."""
        shown = ""
        while PROMPT not in shown:
            ready, _, _ = select.select([self._file], [], [], SECONDS)
            assert ready, f"no prompt came after:\n{self.shown}{shown}"
            shown += os.read(self._file, 4096).decode(errors="replace")
        self.shown += shown
        return shown.replace("\r", "")

    def type(self, command: str) -> str:
        """Type a command, and return what it shows."""
        os.write(self._file, f"{command}\n".encode())
        return self.until_prompt().partition("\n")[2]

    def close(self) -> None:
        """Close it, which ends what runs on it."""
        os.close(self._file)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGHUP)
        os.waitpid(self.child, 0)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    opened = Terminal(work, home)
    yield opened
    opened.close()


def typed(after: str) -> list[list[str]]:
    """Return the commands of each block of a section, in order."""
    section = README.partition(f"\n## {after}\n")[2].partition("\n## ")[0]
    return [
        [line.removeprefix("$ ") for line in block.splitlines()]
        for block in blocks(section, "console")
    ]


@live
@needs_flux
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_from_a_plain_flux_start_to_a_true_burst(terminal: Terminal) -> None:
    install, start, burst = typed("A first burst")
    assert all(re.match(r"python3 -m venv|export PATH=", command) for command in install)
    start_flux, init, start_elastic = start
    assert start_flux == "flux start"
    terminal.type(start_flux)
    refused = terminal.type("fluxburst plan --plugin mock")
    assert "no burst can join this instance" in refused
    assert "fluxburst local init" in refused
    made = terminal.type(f"{init} --port {free_port()}")  # the usual one may be taken here
    assert "can grow by 3 nodes" in made
    terminal.type(start_elastic)
    submit, run, attach, listed, unburst, leave = burst
    assert terminal.type(submit).startswith("ƒ")
    assert re.search(r"1 job selected, 1 assigned, 0 not\..*ready", terminal.type(run), re.DOTALL)
    hosts = terminal.type(attach).splitlines()[:-1]
    assert len(hosts) == 4
    assert re.search(r"free +burst +3 ", terminal.type(listed))
    assert re.search(r"Terminated: local-\S+", terminal.type(unburst))
    assert re.search(r"down +burst +3 ", terminal.type(listed))
    terminal.type(leave)


@live
@needs_flux
def test_an_instance_that_cannot_grow_is_named_by_doctor(tmp_path: Path) -> None:
    import flux

    from fluxburst.config.file import Config
    from fluxburst.flux.live import LiveInstance
    from fluxburst.reports.doctor import Doctor

    with running_flux() as running:
        instance = LiveInstance(flux.Flux(running.uri))
        found = Doctor(Config, instance, state_dir=tmp_path).examine()
        del instance
    (finding, *_) = [one.finding for one in found if one.check == "bursts"]
    assert finding.level == "warning"
    assert "no burst can join this instance: all of it is up (1 node)" in finding.what
    assert "fluxburst local init DIR --burst-nodes N" in finding.advice


def test_an_embedded_instance_takes_every_node() -> None:
    from fluxburst.reports.growth import why_it_cannot_grow

    with FluxBurst(EmbeddedInstance()) as client:
        assert why_it_cannot_grow(client) == ""
