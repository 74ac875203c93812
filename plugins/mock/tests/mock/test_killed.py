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
IMPORTED_FROM = [HERE.parents[1], HERE.parents[3]]
PARTS = min(2, os.cpu_count() or 1)


def start(part: int, parts: int, *options: str) -> subprocess.Popen[str]:
    """Start killing at every so many points."""
    points = [f"--first={part}", f"--stride={parts}"]
    command = [sys.executable, str(HERE / "killing.py"), *points, *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, IMPORTED_FROM))}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize(
    ("options", "stride", "at_least"),
    [
        ((), 16, 30),
        (("--isolated",), 32, 15),
        pytest.param((), 1, 500, marks=pytest.mark.soak),
        pytest.param(("--isolated",), 1, 500, marks=pytest.mark.soak),
    ],
)
def test_whatever_the_point_at_which_it_is_killed_the_next_process_puts_all_in_order(
    options: tuple[str, ...], stride: int, at_least: int
) -> None:
    kills = 0
    parts = [start(part * stride, PARTS * stride, *options) for part in range(1, PARTS + 1)]
    for process in parts:
        said, problems = process.communicate()
        assert said, problems
        told = json.loads(said)
        assert told["wrong"] == []
        kills += told["kills"]
    assert kills > at_least
