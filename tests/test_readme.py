from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from tests.readmes import blocks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def needs(name: str) -> pytest.MarkDecorator:
    try:
        distribution(name)
    except PackageNotFoundError:
        return pytest.mark.skip(reason=f"{name} is not installed")
    return pytest.mark.skipif(False, reason="")


needs_mock = needs("fluxburst-mock")


def test_the_first_two_commands_are_one_line_each_and_alone_in_their_blocks() -> None:
    commands = blocks(README, "sh")
    assert len(commands) == 2
    assert all(len(command.splitlines()) == 1 for command in commands)
    assert commands[0].strip().endswith("fluxburst demo")
    assert commands[1].strip().endswith("nox -s tests")


def test_the_plugin_in_forty_lines_is_the_example_plugin() -> None:
    source = (ROOT / "docs" / "example_plugin" / "fluxburst_example.py").read_text()
    assert source in blocks(README, "python")
    assert len(source.splitlines()) <= 40


@needs("fluxburst-example")
def test_the_plugin_in_forty_lines_takes_part_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fluxburst import FluxBurst

    monkeypatch.setenv("FLUXBURST_EXAMPLE_DIRECTORY", str(tmp_path))
    client = FluxBurst(mock=True)
    client.load("example")
    assert client.run_burst() == []
    (file,) = tmp_path.glob("*.json")
    assert client.run_unburst() == [file.stem]
    assert list(tmp_path.iterdir()) == []


@needs_mock
def test_the_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    import functools

    import fluxburst.client

    embedded = functools.partial(fluxburst.client.FluxBurst, mock=True)
    monkeypatch.setattr(fluxburst.client, "FluxBurst", embedded)
    namespace: dict[str, object] = {}
    exec(blocks(README, "python")[0], namespace)
    assert namespace["unmatched"] == []


@needs_mock
def test_the_commands_run() -> None:
    commands = [
        line.removeprefix("$ fluxburst ").split()
        for block in blocks(README, "console")
        for line in block.splitlines()
        if line.startswith("$ fluxburst ")
    ]
    commands = [one for one in commands if "elastic" not in " ".join(one)]  # see test_first_steps
    assert len(commands) == 4
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "fluxburst", *command],
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), command


@needs_mock
def test_the_demo_shows_bursts_that_come_up_and_go_down() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fluxburst", "demo"], capture_output=True, text=True, check=True
    )
    assert "106 nodes in 3 bursts" in done.stdout
    assert done.stdout.count("ended") == 3
    assert "All nodes are terminated." in done.stdout


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target
