"""Which nodes were up before a burst was asked for, kept beside the ledger to outlast a process.

A plugin may name the hosts of a burst long after it was asked, and to another process. Without the
file, nothing is lost but what it proves: see :mod:`fluxburst.reconcile.vetting`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from fluxburst.errors import FormatError
from fluxburst.formats.hostlist import format_hostlist, parse_hostlist
from fluxburst.ledger.location import LedgerPlace

FILE = "up-before.json"
"""An object: the nodes that were up, as a hostlist (RFC 29), and the bursts asked for then."""

_log = logging.getLogger(__name__)


class Standing:
    """Remembers for each burst which nodes stood before it was asked for.

    Args:
        place: Where the ledger is; in memory, nothing outlasts this object.
    """

    def __init__(self, place: LedgerPlace) -> None:
        self._place = place
        self._before: dict[str, frozenset[str]] = {}

    def before(self, burst: str) -> frozenset[str] | None:
        """Return the hostnames that were up before a burst was asked for; None if not known."""
        if burst not in self._before:
            self._before = {**self._read(), **self._before}
        return self._before.get(burst)

    def note(self, bursts: Collection[str], up: frozenset[str], live: Collection[str]) -> None:
        """Note what is up before bursts are asked for; only ``live`` ones are remembered still."""
        known = {**self._read(), **self._before}
        self._before = {name: hosts for name, hosts in known.items() if name in live}
        self._before.update(dict.fromkeys(bursts, up))
        path = self._path
        if path is not None:
            try:
                self._write(path)
            except OSError as error:  # the hosts that are named after a restart are refused then
                _log.warning("%s cannot be written: %s", path, error.strerror)

    @property
    def _path(self) -> Path | None:
        directory = self._place.directory
        return None if directory is None else directory / FILE

    def _read(self) -> dict[str, frozenset[str]]:
        path = self._path
        if path is None:
            return {}
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return {
                name: hosts
                for text, names in told.items()
                for hosts in [frozenset(parse_hostlist(text) if text else ())]
                for name in names
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, FormatError) as error:
            _log.warning("%s cannot be read, and is not believed: %s", path, error)
            return {}

    def _write(self, path: Path) -> None:
        told: dict[frozenset[str], list[str]] = {}
        for name, hosts in self._before.items():
            told.setdefault(hosts, []).append(name)
        text = json.dumps({format_hostlist(sorted(h)): names for h, names in told.items()})
        descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(made).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(made).unlink()
            raise
