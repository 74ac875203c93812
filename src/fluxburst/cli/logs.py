"""Log lines of the command line: as text for a person, or as JSON for a log collector."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any, Literal

from fluxburst.cli.complaints import printable

Format = Literal["text", "json"]

FIELDS = ("burst", "plugin", "job", "jobs")
"""What a log call may say of its subject, by ``extra={"burst": name, "jobs": ids}``."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII.

    Its keys: ``time`` (RFC 3339, in UTC, to the millisecond), ``level``, ``logger``, ``message``;
    those of :data:`FIELDS` that the log call passed; ``exception``, the traceback as text, where
    there is one.
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
    """The level and the message, with nothing in it that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of a traceback."""
        return printable(super().format(record))


def _plain(value: object) -> object:
    """Return what JSON has no form for: collections as lists, the rest as text."""
    return list(value) if isinstance(value, (set, frozenset)) else str(value)


def set_up(level: int, format: Format = "text") -> None:
    """Send the library's log lines to standard error.

    Args:
        level: The least severe level that is shown, as in :mod:`logging`.
        format: ``text``: the level and the message, and nothing of the fields. ``json``: see
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
