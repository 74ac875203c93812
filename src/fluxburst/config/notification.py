"""A receiver of events: one table ``[[notify]]`` of the configuration file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from fluxburst.errors import FormatError, RequestError, did_you_mean
from fluxburst.formats.units import Duration
from fluxburst.formats.url import check_url

EVENTS = (
    "burst_requested",
    "burst_ready",
    "burst_ended",
    "burst_failed",
    "burst_changed",
    "job_scheduled",
    "jobs_unmatched",
    "jobs_not_started",
    "phase_failed",
    "limit_reached",
)
ALL = "all"
_TIMEOUT = Duration(30.0)


@dataclass(frozen=True)
class Notification:
    """A receiver and its events: one table ``[[notify]]`` of the configuration file.

    Attributes:
        events: Names out of :data:`EVENTS`, or ``all``.
        command: The command and its arguments; no shell is involved.
        url: The http or https URL to post to, instead of a command.
        timeout: How long the command may run, or the URL may be silent.
        headers_file: File of additional headers for the URL, such as ``Authorization``, one
            ``Name: value`` per line; read for each event. Only its owner may have access.

    Raises:
        RequestError: if an event is unknown, if there is not exactly one of command and URL, or
            if the URL or the timeout is invalid.
    """

    events: list[str]
    command: list[str] = field(default_factory=list)
    url: str = ""
    timeout: Duration = _TIMEOUT
    headers_file: Path | None = None

    def __post_init__(self) -> None:
        names = (*EVENTS, ALL)
        if not self.events:
            raise RequestError(f"events must not be empty [choose from {', '.join(names)}]")
        for event in self.events:
            if event not in names:
                hint = did_you_mean(event, names)
                raise RequestError(f"unknown event {event!r}{hint} [{', '.join(names)}]")
        if bool(self.command) == bool(self.url):
            raise RequestError("set exactly one of command and url")
        if self.url:
            check_url(self.url)
        elif self.headers_file is not None:
            raise RequestError("headers_file requires url, not command")
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise FormatError(self.timeout, "a positive and finite timeout")

    def wants(self, event: str) -> bool:
        """Return whether the receiver wants an event."""
        return ALL in self.events or event in self.events
