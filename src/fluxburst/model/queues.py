"""Queues of an instance (RFC 33): whether their jobs start, and whether jobs can move there.

Flux decides what a job may do; this predicts its known refusals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fluxburst.model.job import Job


@dataclass(frozen=True)
class Queue:
    """One queue of an instance; without named queues, one with an empty name.

    Attributes:
        name: Its name.
        enabled: Whether it accepts jobs: submitted ones, and moved ones.
        started: Whether its jobs are scheduled.
        why_disabled: The reason given by whoever disabled it.
        why_stopped: The reason given by whoever stopped it; or that there is no scheduler.
        requires: The properties required of its jobs' nodes; None if unknown.
        duration: Default time limit of its jobs in seconds; 0 for unlimited, None if
            unknown.
        longest: Maximum time limit of its jobs in seconds; 0 for unlimited, None if
            unknown.
    """

    name: str
    enabled: bool = True
    started: bool = True
    why_disabled: str = ""
    why_stopped: str = ""
    requires: tuple[str, ...] | None = ()
    duration: float | None = None
    longest: float | None = None

    @property
    def why_closed(self) -> str:
        """Why no capacity is provisioned for its jobs; empty if it is.

        Jobs in a disabled queue still start (measured with Flux 0.88.0). But a queue that takes no
        more work gets no more nodes either.
        """
        what = f"queue {self.name!r}" if self.name else "queue"
        if not self.started:
            return f"its {what} is stopped{_because(self.why_stopped)}"
        if not self.enabled:
            return (
                f"its {what} is disabled{_because(self.why_disabled)}; it starts on nodes that "
                "are free, but no others are provisioned for it"
            )
        return ""


STOPPED = re.compile(r"its queue( '[^']*')? is stopped")
"""Matches a reason that says that a queue is stopped, see :attr:`Queue.why_closed`."""


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def why_not_startable(job: Job, queues: Mapping[str, Queue]) -> str:
    """Return why nodes would not help a job to start, as far as its queue is concerned; or empty.

    Args:
        job: The job.
        queues: All queues by name; empty if unknown.

    Raises:
        JobspecError: if its jobspec does not give its queue.
    """
    queue = queues.get(job.queue)
    if queue is not None:
        return queue.why_closed
    if any(queues):  # with named queues, a job without a queue never starts
        return f"its queue {job.queue!r} does not exist" if job.queue else "it is in no queue"
    return ""


def why_not_moved(job: Job, queue: str, queues: Mapping[str, Queue]) -> str:
    """Return why a pending job could not run in a queue after moving to it; or empty.

    When a job changes its queue, Flux replaces the job's constraint by the new queue's. So
    it refuses that for a job with a constraint that its queue did not add.

    Raises:
        JobspecError: if its jobspec does not give its queue, or its constraint.
    """
    target = queues.get(queue)
    if not queues:
        return ""
    if target is None:
        return f"there is no queue {queue!r}"
    if not target.started:
        return f"its queue {queue!r} is stopped{_because(target.why_stopped)}"
    if not target.enabled:
        return f"its queue {queue!r} is disabled{_because(target.why_disabled)}"
    source = queues.get(job.queue)
    if job.queue == queue or source is None or source.requires is None:
        return ""
    if job.constraint and job.constraint != {"properties": list(source.requires)}:
        return (
            f"it cannot move to queue {queue!r}: it has its own constraints, which Flux "
            "would replace by those of the queue; submit it to that queue"
        )
    return ""
