"""Processes are known by their environment, which they do not show at every moment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from fluxburst_local import processes


def test_a_process_that_shows_no_environment_for_a_moment_is_not_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is being executed, which a busy machine may do long after it was started."""
    pid = processes.spawn(["/bin/sleep", "60"], {"MARK": "here"}, tmp_path / "log")
    try:
        read, empty = psutil.Process.environ, iter(range(3))

        def environ(process: psutil.Process) -> dict[str, str]:
            hidden = process.pid == pid and next(empty, None) is not None
            return {} if hidden else read(process)

        monkeypatch.setattr(processes, "STARTING_SECONDS", 0.0)
        monkeypatch.setattr(psutil.Process, "environ", environ)
        found = {one.pid: environment for one, environment in processes.environments()}
        assert found[pid]["MARK"] == "here"
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_process_without_an_environment_is_doubted_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = processes.spawn(["/bin/sleep", "60"], {}, tmp_path / "log")
    try:
        reads = 0
        read = psutil.Process.environ

        def environ(process: psutil.Process) -> dict[str, str]:
            nonlocal reads
            reads += process.pid == pid
            return {} if process.pid == pid else read(process)

        monkeypatch.setattr(processes, "STARTING_SECONDS", 0.0)
        monkeypatch.setattr(psutil.Process, "environ", environ)
        assert pid not in {one.pid for one, _ in processes.environments()}
        before = reads
        assert pid not in {one.pid for one, _ in processes.environments()}
        assert before > 1
        assert reads == before + 1
    finally:
        os.kill(pid, signal.SIGKILL)
