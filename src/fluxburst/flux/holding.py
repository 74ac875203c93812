"""Checks that held jobs stay held: a scheduler may be giving them resources meanwhile.

flux-core's schedulers answer in order: any answer means that they know all earlier requests.
Fluxion matches apart from its queues (``sched-fluxion-resource``): it learns at once that
a job is held, but a match that is under way goes on, and the job starts. Measured with flux-sched
0.54.0: of ten jobs of 1500 nodes, held as they came, eight ran.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from fluxburst.errors import FormatError, InstanceError
from fluxburst.flux.rpc import Requests
from fluxburst.formats.fluid import format_f58, parse_fluid

PATIENCE_SECONDS = 60.0
"""How long a scheduler may take to let go of jobs before it is an error."""

POLL_SECONDS, POLL_SECONDS_AT_MOST = 0.02, 0.5
"""Polling interval for Fluxion: doubled each time, up to a maximum."""

_STATS = "sched-fluxion-qmanager.stats-get"
_UNDECIDED, _STARTS = "pending_queues", "scheduled_queues"

_NOTHING = {
    "namespace": "primary",
    "flags": 0,
    "ops": [{"key": "fluxburst.nothing", "flags": 0, "dirent": None}],
}
"""A commit that removes a key that does not exist."""


def started_meanwhile(requests: Requests, held: Sequence[int]) -> set[int]:
    """Return the jobs that got resources before the scheduler learned that they are held.

    Once this later commit exists, so does everything it committed to the KVS before (R, RFC 27).

    Args:
        requests: The connection to the instance.
        held: The jobs; their urgency is 0 by now.

    Raises:
        InstanceError: if the scheduler does not decide about them in time.
        OSError: if another request fails.
    """
    if not held:
        return set()
    started = _let_go_by_fluxion(requests, held)
    if started is None:
        started = set()
        with suppress(OSError):
            requests.ask("sched.ping", {})  # any answer will do, even an error
    requests.ask("kvs.commit", _NOTHING, nodeid=0)
    lookups = [("job-info.lookup", {"id": jobid, "keys": ["R"], "flags": 0}, 0) for jobid in held]
    for jobid, answer in zip(held, list(requests.ask_each(lookups)), strict=True):
        if not isinstance(answer, OSError):
            started.add(jobid)
        elif not isinstance(answer, FileNotFoundError):
            raise answer
    return started


def _let_go_by_fluxion(requests: Requests, held: Sequence[int]) -> set[int] | None:
    """Wait until Fluxion has decided on jobs; return those that start, None without Fluxion."""
    until = time.monotonic() + PATIENCE_SECONDS
    pause = POLL_SECONDS
    while True:
        (answer,) = requests.ask_each([(_STATS, {}, 0)])
        if isinstance(answer, OSError):
            if answer.errno != errno.ENOSYS:
                raise answer
            return None
        undecided = _jobs_in(answer, _UNDECIDED).intersection(held)
        if not undecided:
            return _jobs_in(answer, _STARTS, "running").intersection(held)
        if time.monotonic() > until:
            names = ", ".join(map(format_f58, sorted(undecided)))
            raise InstanceError(
                f"job {names} was held, but {PATIENCE_SECONDS:.0f} s later Fluxion has not "
                "released it: whether it will start is unknown, so it does not run elsewhere"
            )
        time.sleep(pause)
        pause = min(pause * 2, POLL_SECONDS_AT_MOST)


def _jobs_in(stats: Mapping[str, Any], group: str, name: str | None = None) -> set[int]:
    """Return a queue's jobs from a group of lists, or from one of its lists; of all queues."""
    found: set[int] = set()
    for queue in stats.get("queues", {}).values():
        for key, jobs in queue.get(group, {}).items():
            if name in (None, key):
                found.update(_id_of(job) for job in jobs)
    return found


def _id_of(job: object) -> int:
    """Return a job's id, written in F58 in ASCII or else in decimal.

    Raises:
        InstanceError: if it is neither.
    """
    try:
        return parse_fluid(str(job))
    except FormatError as error:
        raise InstanceError(f"Fluxion lists {job!r} among its jobs") from error
