"""Zones in turn: one that lacked machines of a type is avoided for a while."""

from __future__ import annotations

import time
from collections.abc import Sequence


class Zones:
    """Remembers zones that lacked machines.

    Args:
        pause: For how many seconds to avoid such a zone.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._until: dict[tuple[str, str, bool], float] = {}

    def in_turn(self, zones: Sequence[str], machine_type: str, *, spot: bool) -> Sequence[str]:
        """Return the zones to try, in order: all of them if all are avoided."""
        now = time.monotonic()
        asked = [z for z in zones if self._until.get((z, machine_type, spot), 0.0) <= now]
        return asked or list(zones)

    def had_none(self, zone: str, machine_type: str, *, spot: bool) -> None:
        """Note that a zone lacked machines of a type."""
        self._until[zone, machine_type, spot] = time.monotonic() + self._pause
