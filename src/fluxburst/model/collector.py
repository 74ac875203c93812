"""Pauses Python's garbage collector for code that handles whole queues."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector from walking all jobs repeatedly.

    A pass allocates much and nearly all of it stays: in planning 15 000 jobs the collector took a
    third of the time and freed nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
