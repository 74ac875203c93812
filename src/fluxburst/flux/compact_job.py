"""Jobs with jobspecs kept as text, for long queues.

As objects, a jobspec of a few hundred bytes takes several thousand bytes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fluxburst.errors import JobspecError
from fluxburst.model.job import Job
from fluxburst.model.jobspec import Chunk

_last_read: tuple[object, dict[str, Any]] = (None, {})
"""The last job and its parsed jobspec: callers look at the same job several times in a row."""


@dataclass(frozen=True)
class _Asked:
    """The request in a jobspec."""

    chunks: tuple[Chunk, ...]
    burstable: bool | str
    queue: str
    constrained: bool


@functools.lru_cache(maxsize=1024)
def _asked_by(text: str) -> _Asked:
    """Return the request in a jobspec.

    Raises:
        JobspecError: if it is missing or ambiguous.
    """
    job = Job(id=0, spec=json.loads(text))
    return _Asked(job.chunks, job.burstable, job.queue, job.constraint is not None)


class CompactJob(Job):
    """A job whose ``spec`` is parsed from its JSON text on access.

    It behaves like the :class:`~fluxburst.model.job.Job` with that jobspec, except that changes to
    the value of ``job["spec"]`` do not change the job, and views of its items are views of a copy.

    Args:
        record: Its record from ``job-list``, without a jobspec.
        text: Its jobspec, as JSON.
    """

    __slots__ = ("_text",)

    def __init__(self, record: Mapping[str, Any], text: str) -> None:
        super().__init__(record)
        self._text = text
        """Empty once the jobspec is among the items."""

    def _read(self) -> dict[str, Any]:
        global _last_read  # one for all jobs: one per job would cost what the text saves
        job, spec = _last_read
        if job is not self:
            spec = json.loads(self._text)
            _last_read = (self, spec)
        return spec

    def _unpack(self) -> None:
        """Become an ordinary job before its items change."""
        if self._text:
            super().__setitem__("spec", json.loads(self._text))
            self._text = ""

    def _plain(self) -> dict[str, Any]:
        plain = dict(super().items())
        return {**plain, "spec": self._read()} if self._text else plain

    # --- read by each plan for each job: equal for equal texts --------------------------------

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Its request, part by part; computed once for all jobs with the same jobspec."""
        asked = self._asked
        return super().chunks if asked is None else asked.chunks

    @property
    def burstable(self) -> bool | str:
        """As for every :class:`~fluxburst.model.job.Job`; computed once per distinct jobspec."""
        asked = self._asked
        return super().burstable if asked is None else asked.burstable

    @property
    def constraint(self) -> dict[str, Any] | None:
        """As for every :class:`~fluxburst.model.job.Job`."""
        asked = self._asked
        return super().constraint if asked is None or asked.constrained else None

    @property
    def queue(self) -> str:
        """As for every :class:`~fluxburst.model.job.Job`; the record precedes the jobspec."""
        asked = self._asked
        return super().queue if asked is None else str(super().get("queue") or asked.queue)

    @property
    def duration(self) -> float:
        """As for every :class:`~fluxburst.model.job.Job`; the record has it if it is a number."""
        duration = super().get("duration")
        return duration if isinstance(duration, float) else super().duration

    @property
    def _asked(self) -> _Asked | None:
        """The request in its jobspec; None if the jobspec must be parsed for this job."""
        try:
            return _asked_by(self._text) if self._text else None
        except JobspecError:  # the error must name this job
            return None

    def but(self, **items: Any) -> Job:
        """Return the same job with other items, compact if this one is."""
        if not self._text or "spec" in items:
            return super().but(**items)
        return CompactJob(dict(super().items(), **items), self._text)

    def private(self) -> Job:
        """Return a copy that shares no mutable part with this one."""
        if not self._text:
            return super().private()
        return CompactJob(super().private(), self._text)

    # --- reading: methods of dict that bypass __missing__ ------------------------------------

    def __missing__(self, key: str) -> Any:
        return self._read() if key == "spec" and self._text else super().__missing__(key)

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return an item, or the default."""
        return self._read() if key == "spec" and self._text else super().get(key, default)

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (key == "spec" and bool(self._text))

    def __len__(self) -> int:
        return super().__len__() + bool(self._text)

    def __iter__(self) -> Iterator[str]:
        return iter(self._plain())

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._plain())

    def keys(self) -> Any:
        """Return the keys."""
        return self._plain().keys()

    def values(self) -> Any:
        """Return the values."""
        return self._plain().values()

    def items(self) -> Any:
        """Return the items."""
        return self._plain().items()

    def copy(self) -> dict[str, Any]:
        """Return a plain dict of the same items."""
        return self._plain()

    def __eq__(self, other: object) -> bool:
        return self._plain() == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment] # as for every dict

    def __or__(self, other: Any) -> Any:
        return self._plain() | other

    def __ror__(self, other: Any) -> Any:
        return other | self._plain()

    def __repr__(self) -> str:
        return repr(self._plain())

    def __reduce__(self) -> tuple[type[Job], tuple[dict[str, Any]]]:
        return Job, (self._plain(),)

    # --- changing ---------------------------------------------------------------------------

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "spec":
            self._text = ""
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._unpack()
        super().__delitem__(key)

    def __ior__(self, other: Any) -> Any:
        self._unpack()
        return super().__ior__(other)

    def update(self, *others: Any, **items: Any) -> None:
        """Set several items."""
        self._unpack()
        super().update(*others, **items)

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Return an item, set to the default if it is missing."""
        self._unpack()
        return super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove an item and return it."""
        self._unpack()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the last item and return it with its key."""
        self._unpack()
        return super().popitem()

    def clear(self) -> None:
        """Remove all items."""
        self._text = ""
        super().clear()
