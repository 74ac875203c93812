"""Killed at every point, and started again: nothing is made twice, left over, lost or unpaid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
PARTS = min(2, os.cpu_count() or 1)


def start(part: int) -> subprocess.Popen[str]:
    """Start killing at every so many points."""
    command = [sys.executable, str(HERE / "killing.py"), f"--first={part}", f"--stride={PARTS}"]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_whatever_the_point_at_which_it_is_killed_the_next_process_puts_all_in_order() -> None:
    kills = 0
    for process in [start(part) for part in range(1, PARTS + 1)]:
        said, problems = process.communicate()
        assert said, problems
        told = json.loads(said)
        assert told["wrong"] == []
        kills += told["kills"]
    assert kills > 500
