"""Jobs whose jobspecs are kept as text, for queues too long to keep them as objects.

As objects, a jobspec of a few hundred bytes takes several thousand.
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
"""A job and its jobspec, read last: what looks at jobs looks at one several times in a row."""


@dataclass(frozen=True)
class _Asked:
    """What a jobspec asks for."""

    chunks: tuple[Chunk, ...]
    burstable: bool | str
    queue: str
    constrained: bool


@functools.lru_cache(maxsize=1024)
def _asked_by(text: str) -> _Asked:
    """Return what a jobspec asks for.

    Raises:
        JobspecError: if it does not say, or not clearly.
    """
    job = Job(id=0, spec=json.loads(text))
    return _Asked(job.chunks, job.burstable, job.queue, job.constraint is not None)


class CompactJob(Job):
    """A job whose ``spec`` is read from its JSON text when it is asked for.

    It is the same as the :class:`~fluxburst.model.job.Job` with that jobspec, except that changing
    what ``job["spec"]`` returns does not change the job, and that views of its items are of a copy.

    Args:
        record: What ``job-list`` says of it, without a jobspec.
        text: Its jobspec, as JSON.
    """

    __slots__ = ("_text",)

    def __init__(self, record: Mapping[str, Any], text: str) -> None:
        super().__init__(record)
        self._text = text
        """Empty once the jobspec is among the items."""

    def _read(self) -> dict[str, Any]:
        global _last_read  # one for all jobs: one for each would cost what the text saves
        job, spec = _last_read
        if job is not self:
            spec = json.loads(self._text)
            _last_read = (self, spec)
        return spec

    def _unpack(self) -> None:
        """Become a job like any other, before its items change."""
        if self._text:
            super().__setitem__("spec", json.loads(self._text))
            self._text = ""

    def _plain(self) -> dict[str, Any]:
        plain = dict(super().items())
        return {**plain, "spec": self._read()} if self._text else plain

    # --- what each plan asks of each job: the same for the same text --------------------------

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """What it asks for, part by part; counted once for all jobs of the same jobspec."""
        asked = self._asked
        return super().chunks if asked is None else asked.chunks

    @property
    def burstable(self) -> bool | str:
        """As of every :class:`~fluxburst.model.job.Job`; read once for all of the same jobspec."""
        asked = self._asked
        return super().burstable if asked is None else asked.burstable

    @property
    def constraint(self) -> dict[str, Any] | None:
        """As of every :class:`~fluxburst.model.job.Job`."""
        asked = self._asked
        return super().constraint if asked is None or asked.constrained else None

    @property
    def queue(self) -> str:
        """As of every :class:`~fluxburst.model.job.Job`; the record goes before the jobspec."""
        asked = self._asked
        return super().queue if asked is None else str(super().get("queue") or asked.queue)

    @property
    def duration(self) -> float:
        """As of every :class:`~fluxburst.model.job.Job`; the record has it where it is a number."""
        duration = super().get("duration")
        return duration if isinstance(duration, float) else super().duration

    @property
    def _asked(self) -> _Asked | None:
        """What its jobspec asks for; None where that has to be read for itself."""
        try:
            return _asked_by(self._text) if self._text else None
        except JobspecError:  # which is to name this job
            return None

    def but(self, **items: Any) -> Job:
        """Return the same job with other items, packed where this one is."""
        if not self._text or "spec" in items:
            return super().but(**items)
        return CompactJob(dict(super().items(), **items), self._text)

    def private(self) -> Job:
        """Return a copy that shares nothing with this one that can be changed."""
        if not self._text:
            return super().private()
        return CompactJob(super().private(), self._text)

    # --- reading: what dict does itself, it does without __missing__ ------------------------

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

    __hash__ = None  # type: ignore[assignment] # as it is for every dict

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
        """Return an item, set to the default where there is none."""
        self._unpack()
        return super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """Take an item out and return it."""
        self._unpack()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Take the last item out and return it with its key."""
        self._unpack()
        return super().popitem()

    def clear(self) -> None:
        """Take all items out."""
        self._text = ""
        super().clear()
