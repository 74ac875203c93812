"""Delivers one event to one receiver: runs a command, or posts to a URL."""

from __future__ import annotations

import json
import os

from fluxburst.config.notification import Notification
from fluxburst.formats import process
from fluxburst.service import webhook
from fluxburst.service.outbox import Event


def deliver(event: Event, to: Notification) -> None:
    """Deliver the event now, and wait for the command or the URL.

    Raises:
        FluxburstError: if delivery fails.
    """
    body = json.dumps(event)
    if to.url:
        headers = {} if to.headers_file is None else webhook.read_headers(to.headers_file)
        webhook.post(to.url, body, headers, to.timeout)
    else:
        environment = {**os.environ, **_variables(event)}
        process.run(to.command, stdin=body, environment=environment, timeout=to.timeout)


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
