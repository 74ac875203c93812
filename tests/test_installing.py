"""The administrator's installation as typed; no advice to install what nobody has registered."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.elastic_instance import elastic_instance
from tests.readmes import blocks
from tests.support import flux_available

from fluxburst.config.file import load
from fluxburst.reconcile.verify import install_advice

ROOT = Path(__file__).parent.parent
ADMINISTRATION = (ROOT / "docs" / "administration.md").read_text()
UNIT = (ROOT / "docs" / "fluxburst.service").read_text()

REGISTERED = {"flux-burst", "flux-burst-gke", "flux-python", "nox", "ply", "prometheus-client"}
"""What messages and pages say to install by its name, as PyPI has it."""

GUIDE_OF_FLUX_BURST = (ROOT / "tests" / "data" / "flux-burst-user-guide.md").read_text()


def texts() -> list[Path]:
    """Return all that tells people what to do: pages, and the programs with their messages."""
    found = [ROOT / "README.md", *(ROOT / "docs").glob("*.*"), *ROOT.glob("plugins/*/README.md")]
    found += [*ROOT.glob("src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    return [path for path in found if path.suffix in (".md", ".py", ".toml", ".service")]


def test_nothing_is_to_be_installed_by_a_name_that_nobody_has_registered() -> None:
    unknown = set()
    for path in texts():
        for line in path.read_text().splitlines():
            if line in GUIDE_OF_FLUX_BURST.splitlines() or "--find-links" in line:
                continue  # that guide is told as it was written; and these lie in a directory
            said = re.search(r"pip install ([^`)\n;]*)", line.replace("&&", ";"))
            for word in said[1].split() if said else ():
                name = re.split(r"[\[=<>\"',]", word.strip("'\""))[0]
                if re.fullmatch(r"[A-Za-z][\w.-]*", name) and name.startswith(("flux", "nox")):
                    unknown |= {(path.name, name)} if name not in REGISTERED else set()
    assert unknown == set()


def test_how_to_get_each_plugin_of_ours_is_by_paths_that_are_there() -> None:
    for project in ROOT.glob("plugins/*/pyproject.toml"):
        name = project.parent.name
        if "[project.entry-points.fluxburst]" not in project.read_text():
            continue  # a library
        paths = re.findall(r"\./plugins/\S+", install_advice(name))
        assert f"./plugins/{name}" in paths
        assert all((ROOT / path).is_dir() for path in paths)
        needs = re.findall(r'"fluxburst-([\w-]+)', project.read_text())
        assert {f"./plugins/{need}" for need in needs} <= set(paths)
        assert install_advice(name.replace("-", "_")) == install_advice(name)
    assert install_advice("theirs") == ("install the package that offers theirs, from its author")


def commands() -> list[str]:
    section = ADMINISTRATION.partition("\n## Install\n")[2].partition("\n## ")[0]
    return [
        line.removeprefix("$ ")
        for block in blocks(section, "console")
        for line in block.splitlines()
    ]


def test_what_the_administrator_installs_has_each_plugin_of_the_configuration() -> None:
    (install,) = [command for command in commands() if " pip install " in command]
    installed = re.findall(r"\./plugins/([\w-]+)", install)
    configured = load(ROOT / "docs" / "fluxburst.toml").plugins
    assert {name.replace("_", "-") for name in configured} == set(installed)
    assert "[flux,metrics]" in install


@pytest.mark.flux
@pytest.mark.skipif(not flux_available(), reason="no Flux here")
def test_the_service_runs_as_the_administrator_has_installed_it(tmp_path: Path) -> None:
    pytest.importorskip("prometheus_client")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    for command in commands():
        if command.startswith("install "):
            here = command.replace(" /etc/", f" {tmp_path}/etc/")
            subprocess.run(shlex.split(here), cwd=ROOT, check=True)
    config = tmp_path / "etc" / "fluxburst" / "fluxburst.toml"
    assert (tmp_path / "etc" / "systemd" / "system" / "fluxburst.service").read_text() == UNIT
    config.write_text(config.read_text().replace("port = 9464", "port = 0"))  # it may be taken
    (line,) = re.findall(r"^ExecStart=/usr/bin/env fluxburst (.*)$", UNIT, re.MULTILINE)
    others = {e.name for e in importlib.metadata.entry_points(group="fluxburst")} - {"local"}
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(60)
    with elastic_instance(tmp_path / "elastic", "local", ["--burst-nodes=1"]) as instance, manager:
        service = subprocess.Popen(
            [sys.executable, "-m", "fluxburst", *line.split(), f"--config={config}"],
            env={
                **os.environ,
                "FLUX_URI": instance.flux.uri,
                "FLUXBURST_STATE_DIR": str(tmp_path / "state"),
                "FLUXBURST_BLOCK": ",".join(sorted(others)),
                "NOTIFY_SOCKET": str(tmp_path / "notify"),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            told = ""
            while "READY=1" not in told or "STATUS=0 bursts" not in told:
                told += manager.recv(4096).decode() + "\n"
        finally:
            service.send_signal(signal.SIGTERM)
            _, err = service.communicate(timeout=60)
    assert service.returncode == 0, err
    assert "unknown burst plugin" not in err
    assert "WARNING" not in err, err
