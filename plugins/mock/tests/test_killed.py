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
HALVES = 2


@pytest.mark.parametrize("half", range(HALVES))
def test_whatever_the_point_at_which_it_is_killed_the_next_process_puts_all_in_order(
    half: int,
) -> None:
    options = [f"--first={half + 1}", f"--stride={HALVES}"]
    command = [sys.executable, str(HERE / "killing.py"), *options]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["kills"] > 100
