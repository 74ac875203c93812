"""What is made of what the lead of an isolated burst told, and of what cannot be seen."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fluxburst import Burst, BurstState
from fluxburst.errors import BurstError
from fluxburst.provider.isolation import UNREAD
from fluxburst_local.brokers import Brokers
from fluxburst_local.isolated import UNSEEN_SECONDS, IsolatedBursts
from fluxburst_local.launchers import Launched

BURST = Burst("local-1", "local", "2-core", 1, (7,), BurstState.READY, isolated=True)
HERE = Launched("local-1", ("a",), since=1.0)
GONE = replace(HERE, lost=frozenset({"a"}))
SLURM = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks..."


@pytest.fixture
def there(tmp_path: Path) -> IsolatedBursts:
    """The directory of a burst whose job runs."""
    made = IsolatedBursts(Brokers("flux", tmp_path, tmp_path, 7, 60.0, "", ""), tmp_path / "output")
    folder = made.brokers.isolated(BURST.name)
    folder.mkdir(parents=True)
    for name, content in {"told": "state running\n", "job.json": "{}", "output": "42\n"}.items():
        (folder / name).write_text(content)
    log = made.brokers.log(BURST.name, "a")
    log.parent.mkdir(parents=True)
    log.write_text("broker.err[0]: it ended\n")
    return made


def told(there: IsolatedBursts) -> Path:
    return there.brokers.isolated(BURST.name) / "told"


def hidden(there: IsolatedBursts) -> Path:
    """Where a file is put that cannot be seen."""
    return there.brokers.directory / "hidden"


def make_old(there: IsolatedBursts, seconds: float) -> None:
    then = time.time() - seconds
    folders = there.brokers.isolated(BURST.name), there.brokers.logs(BURST.name)
    for path in [path for folder in folders for path in folder.iterdir()]:
        os.utime(path, (then, then))


@pytest.mark.parametrize("launched", [HERE, GONE, None])
def test_a_file_that_cannot_be_seen_for_a_while_is_not_the_end_of_a_job(
    there: IsolatedBursts, launched: Launched | None
) -> None:
    told(there).rename(hidden(there))
    make_old(there, UNSEEN_SECONDS - 60)
    with pytest.raises(BurstError, match="on NFS that may take a minute"):
        there.as_it_is(BURST, launched, "")
    with pytest.raises(BurstError, match="on NFS"):  # or it would be started once more
        there.has_begun(BURST.name)
    assert not there.has_ended(BURST.name)
    hidden(there).rename(told(there))
    told(there).write_text("state running\nexit-code 3\n")
    now = there.as_it_is(BURST, launched, "")
    assert (now.exit_code, Path(now.output).read_text()) == (3, "42\n")


def test_a_file_that_stays_unseen_is_not_waited_for_for_ever(there: IsolatedBursts) -> None:
    told(there).unlink()
    make_old(there, UNSEEN_SECONDS + 60)
    assert there.as_it_is(BURST, HERE, "").state is BurstState.READY
    assert there.as_it_is(BURST, GONE, "").state is BurstState.FAILED


@pytest.mark.parametrize("state", [BurstState.STARTING, BurstState.READY])
def test_brokers_that_are_lost_are_a_start_where_the_job_ran(
    there: IsolatedBursts, state: BurstState
) -> None:
    now = there.as_it_is(replace(BURST, state=state), GONE, "")
    assert (now.state, now.joined) == (BurstState.FAILED, 1)
    assert "a is gone" in now.error
    told(there).write_text("state submitted\n")
    now = there.as_it_is(replace(BURST, state=BurstState.STARTING), GONE, "")
    assert (now.state, now.joined) == (BurstState.FAILED, 0)


def test_what_slurm_killed_for_memory_has_ended(there: IsolatedBursts) -> None:
    with there.brokers.log(BURST.name, "a").open("a") as log:
        log.write(f"{SLURM}\n")
    assert there.as_it_is(BURST, HERE, "").exit_code is None
    now = there.as_it_is(BURST, GONE, "")
    assert (now.state, now.exit_code) == (BurstState.READY, 137)
    assert now.error == f"it was killed for lack of memory on a: {SLURM}"
    assert Path(now.output).read_text() == "42\n"


def test_output_that_is_not_there_yet_is_asked_for_again(there: IsolatedBursts) -> None:
    told(there).write_text("state running\nexit-code 0\n")
    output = told(there).with_name("output")
    output.rename(hidden(there))
    now = there.as_it_is(BURST, GONE, "")
    assert (now.exit_code, now.output.startswith(UNREAD)) == (0, True)
    hidden(there).rename(output)
    assert Path(there.as_it_is(now, GONE, "").output).read_text() == "42\n"
