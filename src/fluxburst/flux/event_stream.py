"""Events of a live instance: two streams over a separate connection.

They are the job manager's journal and the resource journal (``resource.journal``, which reports
nodes that go up, down or are drained). This module does not wait for events.
"""

from __future__ import annotations

import errno
import math
import time
from typing import Any

from fluxburst.flux import job_journal
from fluxburst.flux.job_journal import Journal
from fluxburst.flux.protocol import Changes
from fluxburst.flux.rpc import PATIENCE_SECONDS, STREAMING, Channel, Disconnected


class EventStream:
    """The two streams of one connection.

    Discard it after any exception: an event may have been lost.

    Args:
        handle: A ``flux.Flux`` for exclusive use.
    """

    def __init__(self, handle: Any) -> None:
        self._channel = Channel(handle)
        self._journal = Journal()
        self._jobs = self._channel.send(job_journal.TOPIC, job_journal.REQUEST, flags=STREAMING)
        self._nodes = self._channel.send("resource.journal", {}, nodeid=0, flags=STREAMING)
        self._nodes_caught_up = False
        self._mark = 0
        self._news_of_jobs = self._news_of_nodes = False

    def fileno(self) -> int:
        """Return a file descriptor that turns readable when :meth:`drain` may find something."""
        return self._channel.fileno()

    @property
    def caught_up(self) -> bool:
        """Whether both histories have been read."""
        return self._journal.caught_up and self._nodes_caught_up

    def catch_up(self) -> None:
        """Read both histories, and all job events up to this call.

        Asks the job manager a question: its answer comes after all events until then.

        Raises:
            OSError: if the instance does not answer, or has ended a stream.
        """
        self._mark = self._channel.send("job-manager.getinfo", {})
        while self._mark or not self.caught_up:
            if not self._channel.wait(PATIENCE_SECONDS):
                raise TimeoutError(
                    errno.ETIMEDOUT, f"no answer within {PATIENCE_SECONDS:.0f} seconds"
                )
            self.drain()

    def drain(self, until: float = math.inf) -> None:
        """Read what has arrived, until a time of the monotonic clock at most.

        Raises:
            OSError: if the instance went away, or has ended a stream.
        """
        while self._channel.readable():
            while (found := self._channel.receive()) is not None:
                self._read(*found)
                if time.monotonic() >= until:
                    return

    def changes(self) -> Changes:
        """Return the changes among the pending jobs since the last call."""
        self._news_of_jobs = False
        return self._journal.changes()

    def take_news(self) -> bool:
        """Whether anything happened since the last call, of this or :meth:`changes`."""
        news = self._news_of_jobs or self._news_of_nodes
        self._news_of_jobs = self._news_of_nodes = False
        return news

    def _read(self, tag: int, answer: Any) -> None:
        if isinstance(answer, OSError):
            if answer.errno == errno.ENODATA:  # its module was unloaded, as when Flux shuts down
                raise Disconnected(errno.ECONNRESET, "it ended the stream of its events")
            raise answer
        if tag == self._mark:
            self._mark = 0
        elif tag == self._jobs:
            self._news_of_jobs |= self._journal.caught_up
            self._journal.read(answer)
        elif answer["events"]:
            self._news_of_nodes |= self._nodes_caught_up
        else:
            self._nodes_caught_up = True
