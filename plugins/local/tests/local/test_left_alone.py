"""A service on a live elastic instance that is left alone, and killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.local.watching_live import watch

pytestmark = [pytest.mark.flux, pytest.mark.long]

HERE = Path(__file__).parent
IMPORTED_FROM = [HERE.parents[1], HERE.parents[3]]
"""Nothing of this Python's own may be among it: Flux's own commands run with another one."""

STRIDE = 61
"""Which points are tried here; ``nox -s soak`` tries all of them."""


@pytest.mark.soak
def test_nodes_come_and_go_with_the_jobs_while_the_service_is_killed_three_times(
    tmp_path: Path,
) -> None:
    story = watch(tmp_path, seconds=20.0)
    assert story["results"] == ["COMPLETED"]
    assert (story["left"], story["status"]) == ([], 0)
    assert story["verified"] == 0, story["said"]
    assert set(story["bursts"]) <= {"ended", "failed"}
    assert story["bursts"]


@pytest.mark.parametrize("kind", [(), pytest.param(("--isolated",), marks=pytest.mark.soak)])
def test_a_client_that_is_killed_anywhere_leaves_what_the_next_one_puts_in_order(
    tmp_path: Path, kind: tuple[str, ...]
) -> None:
    script = [sys.executable, str(HERE / "killing_live.py"), str(tmp_path)]
    command = [*script, f"--stride={STRIDE}", *kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, IMPORTED_FROM))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["kills"] > 2
