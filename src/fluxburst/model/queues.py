"""Queues of an instance (RFC 33): whether their jobs start, and whether jobs can be moved there.

What Flux lets a job do is decided by Flux; this says beforehand what it is known to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fluxburst.model.job import Job


@dataclass(frozen=True)
class Queue:
    """One queue of an instance; without named queues there is one, whose name is empty.

    Attributes:
        name: Its name.
        enabled: Whether it accepts jobs: those submitted to it, and those moved to it.
        started: Whether its jobs are scheduled.
        why_disabled: Who disabled it said this.
        why_stopped: Who stopped it said this; also that there is no scheduler.
        requires: The properties that the nodes of its jobs must have; None where that is not known.
        duration: For how many seconds a job may run that asks for no limit; 0 for ever, None where
            that is not known.
        longest: For how many seconds a job may ask at most; 0 for no limit, None where that is not
            known.
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
        """Why no capacity is to be brought up for its jobs; empty where it may be.

        Jobs in a queue that is disabled still start (measured with Flux 0.88.0). Whoever disabled
        it wants no more work there, so it gets no more nodes either.
        """
        what = f"queue {self.name!r}" if self.name else "queue"
        if not self.started:
            return f"its {what} is stopped{_because(self.why_stopped)}"
        if not self.enabled:
            return (
                f"its {what} is disabled{_because(self.why_disabled)}; it starts on nodes that "
                "are free, and no others are brought up for it"
            )
        return ""


STOPPED = re.compile(r"its queue( '[^']*')? is stopped")
"""How a reason begins that says that a queue is stopped, see :attr:`Queue.why_closed`."""


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def why_not_startable(job: Job, queues: Mapping[str, Queue]) -> str:
    """Return why nodes would not help a job to start, as far as its queue goes; or empty.

    Args:
        job: The job.
        queues: All queues by name; empty where they are not known.

    Raises:
        JobspecError: if its jobspec does not tell its queue.
    """
    queue = queues.get(job.queue)
    if queue is not None:
        return queue.why_closed
    if any(queues):  # an instance with named queues starts nothing that is in none of them
        return f"its queue {job.queue!r} does not exist" if job.queue else "it is in no queue"
    return ""


def why_not_moved(job: Job, queue: str, queues: Mapping[str, Queue]) -> str:
    """Return why a pending job cannot be used in a queue that it would be moved to; or empty.

    Flux replaces the constraint of a job that changes its queue by what the new queue requires. So
    it refuses that for a job with a constraint that its queue did not put there.

    Raises:
        JobspecError: if its jobspec does not tell its queue, or its constraint.
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
            f"it cannot be moved to queue {queue!r}: it has constraints of its own, which Flux "
            "would replace by those of the queue; submit it to that queue"
        )
    return ""
