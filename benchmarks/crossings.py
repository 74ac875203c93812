"""How far a reader has to walk: calls between modules in one pass that requests one burst.

The pass runs on an embedded instance with the mock plugin: one burstable job, one burst. A call
crosses when its caller and what is called are in two modules of fluxburst, plugins left out.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from fluxburst import FluxBurst
from fluxburst.simulation.embedded import EmbeddedInstance
from fluxburst_mock.plugin import BurstParameters

SLOT = {"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 1}]}
JOBSPEC = {
    "version": 1,
    "resources": [{"type": "node", "count": 2, "with": [SLOT]}],
    "tasks": [{"command": ["true"], "slot": "task", "count": {"per_slot": 1}}],
    "attributes": {"system": {"duration": 60.0, "burstable": True}},
}
"""A burstable job that asks for two nodes."""


class Walk:
    """What was called, as ``sys.setprofile`` tells it."""

    def __init__(self) -> None:
        self.calls = 0
        self.crossings: Counter[tuple[str, str]] = Counter()
        self.modules: set[str] = set()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        """Take in one event."""
        if event != "call" or not (callee := _module(frame)):
            return
        self.calls += 1
        self.modules.add(callee)
        caller = _module(frame.f_back) if frame.f_back else ""
        if caller and caller != callee:
            self.crossings[caller, callee] += 1


def _module(frame: FrameType) -> str:
    """Return the module of fluxburst that code is in; empty for what is elsewhere."""
    name = str(frame.f_globals.get("__name__", ""))
    return name if name.startswith("fluxburst.") else ""


def walk_a_pass() -> Walk:
    """Run one pass that requests a burst, and return what was called in it."""
    walk = Walk()
    with tempfile.TemporaryDirectory() as folder:
        instance = EmbeddedInstance()
        with FluxBurst(instance, state_dir=Path(folder)) as client:
            client.load("mock", BurstParameters())
            client.run_burst()  # what is read once, is read
            instance.submit(JOBSPEC)
            threading.setprofile(walk.note)
            sys.setprofile(walk.note)
            try:
                client.run_burst()
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
            assert client.ledger.live(), "no burst was requested"
    return walk


def main() -> None:
    """Print the figures, and the pairs of modules between which most calls are."""
    walk = walk_a_pass()
    print(f"calls: {walk.calls}")
    print(f"calls that cross modules: {walk.crossings.total()}")
    print(f"modules: {len(walk.modules)}")
    for (caller, callee), count in walk.crossings.most_common(25):
        print(f"  {count:4}  {caller} -> {callee}")


if __name__ == "__main__":
    main()
