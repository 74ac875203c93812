"""Log lines of the command line: text for people, or JSON for a log collector."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any, Literal

from fluxburst.cli.complaints import printable

Format = Literal["text", "json"]

FIELDS = ("burst", "plugin", "job", "jobs")
"""Fields of a log call's subject, passed as ``extra={"burst": name, "jobs": ids}``."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line, in ASCII.

    Keys: ``time`` (RFC 3339, UTC, milliseconds), ``level``, ``logger``, ``message``; those of
    :data:`FIELDS` that the log call passed; ``exception``, the traceback as text, if there is
    one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=_plain)


class TextFormatter(logging.Formatter):
    """The level and the message, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, with any traceback."""
        return printable(super().format(record))


def _plain(value: object) -> object:
    """Return a value that JSON can express: collections as lists, anything else as text."""
    return list(value) if isinstance(value, (set, frozenset)) else str(value)


def set_up(level: int, format: Format = "text") -> None:
    """Send the library's log lines to standard error.

    Args:
        level: The least severe level to show, as in :mod:`logging`.
        format: ``text``: level and message, without fields. ``json``: see
            :class:`JsonFormatter`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter()
        if format == "json"
        else TextFormatter("fluxburst: %(levelname)s: %(message)s")
    )
    logger = logging.getLogger("fluxburst")
    logger.handlers = [handler]
    logger.setLevel(level)
