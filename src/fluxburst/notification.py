"""Whom to tell of what: one table ``[[notify]]`` of the configuration file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from fluxburst import commands, webhooks
from fluxburst.errors import FormatError, RequestError, did_you_mean
from fluxburst.outbox import Event
from fluxburst.quantities import Duration

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
    """Whom to tell of which events: one table ``[[notify]]`` of the configuration file.

    Attributes:
        events: Names out of :data:`EVENTS`, or ``all``.
        command: The command to run and its arguments; no shell is involved.
        url: The http or https URL to post to, instead of a command.
        timeout: How long the command may run, or the URL be silent.
        headers_file: File of further headers for the URL, such as ``Authorization``, one
            ``Name: value`` a line; read for each event. Only its owner may be able to read it.

    Raises:
        RequestError: if an event is not known, if there is not exactly one of command and URL, or
            if the URL or the timeout is none.
    """

    events: list[str]
    command: list[str] = field(default_factory=list)
    url: str = ""
    timeout: Duration = _TIMEOUT
    headers_file: Path | None = None

    def __post_init__(self) -> None:
        names = (*EVENTS, ALL)
        if not self.events:
            raise RequestError(f"events must name at least one [choose from {', '.join(names)}]")
        for event in self.events:
            if event not in names:
                hint = did_you_mean(event, names)
                raise RequestError(f"unknown event {event!r}{hint} [{', '.join(names)}]")
        if bool(self.command) == bool(self.url):
            raise RequestError("exactly one of command and url must be given")
        if self.url:
            webhooks.check_url(self.url)
        elif self.headers_file is not None:
            raise RequestError("headers_file goes with a url, not with a command")
        if not (self.timeout > 0 and math.isfinite(self.timeout)):
            raise FormatError(self.timeout, "a timeout of more than 0, and not for ever")

    def wants(self, event: str) -> bool:
        """Return whether it is to be told of an event."""
        return ALL in self.events or event in self.events

    def send(self, event: Event) -> None:
        """Tell of an event, now, and wait for the command or the URL.

        Raises:
            FluxburstError: if it fails.
        """
        body = json.dumps(event)
        if self.url:
            headers = {} if self.headers_file is None else webhooks.read_headers(self.headers_file)
            webhooks.post(self.url, body, headers, self.timeout)
        else:
            environment = {**os.environ, **_variables(event)}
            commands.run(self.command, stdin=body, environment=environment, timeout=self.timeout)


def _variables(event: Event) -> dict[str, str]:
    burst = event.get("burst") or {}
    values = {
        "FLUXBURST_EVENT": event["event"],
        "FLUXBURST_EVENT_INSTANCE": event["instance"],
        "FLUXBURST_EVENT_PLUGIN": event.get("plugin") or burst.get("plugin"),
        "FLUXBURST_EVENT_BURST": burst.get("name"),
        "FLUXBURST_EVENT_STATE": burst.get("state"),
    }
    return {name: value for name, value in values.items() if value}
