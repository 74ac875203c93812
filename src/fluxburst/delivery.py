"""Telling one receiver of one event: a command is run, or a URL is posted to."""

from __future__ import annotations

import json
import os

from fluxburst import commands, webhooks
from fluxburst.notification import Notification
from fluxburst.outbox import Event


def deliver(event: Event, to: Notification) -> None:
    """Tell of an event, now, and wait for the command or the URL.

    Raises:
        FluxburstError: if it fails.
    """
    body = json.dumps(event)
    if to.url:
        headers = {} if to.headers_file is None else webhooks.read_headers(to.headers_file)
        webhooks.post(to.url, body, headers, to.timeout)
    else:
        environment = {**os.environ, **_variables(event)}
        commands.run(to.command, stdin=body, environment=environment, timeout=to.timeout)


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
