"""Breakers: a node type that fails again and again is not asked for, for a while.

Closed, it is asked for; open, it is not until its time has come; then half-open, one burst is tried
(the probe). What comes up closes it; what fails opens it for twice as long.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fluxburst.config.policy import Breaking
from fluxburst.formats.units import counted, format_duration
from fluxburst.ledger.entries import Breaker, Entry
from fluxburst.model.burst import COMING_STATES

JITTER = 0.25
"""By which part of itself a back-off is longer or shorter, so that not all come back at once."""

_random = random.SystemRandom()


def failed(
    breaker: Breaker, policy: Breaking, now: float, error: str, *, final: bool = False
) -> Breaker:
    """Return the breaker after one more failure; a ``final`` one opens it whatever came before."""
    failures = breaker.failures + 1
    needed = 1 if final else policy.failures
    if failures < needed:
        return replace(breaker, failures=failures, error=error)
    doubled = min(failures - needed, 60)
    pause = min(policy.max_backoff, policy.backoff * 2**doubled)
    pause *= 1 + _random.uniform(-JITTER, JITTER)
    return replace(breaker, failures=failures, retry_at=now + pause, error=error)


def closed_types(
    breakers: Iterable[Breaker], live: Iterable[Entry], now: float
) -> Mapping[tuple[str, str], str]:
    """Return the node types that are not to be asked for, by plugin and name, with the reason."""
    coming = {
        (entry.burst.plugin, entry.burst.node_type): entry
        for entry in live
        if entry.burst.state in COMING_STATES
    }
    reasons: dict[tuple[str, str], str] = {}
    for breaker in breakers:
        if breaker.retry_at is None:
            continue
        key = breaker.plugin, breaker.node_type
        times = _times(breaker)
        if now < breaker.retry_at:
            reasons[key] = f"for {format_duration(breaker.retry_at - now)} yet, as {times}"
        elif key in coming and coming[key].requested >= breaker.retry_at:
            reasons[key] = f"until burst {coming[key].burst.name} is up, as {times}"
    return reasons


def tried_types(
    breakers: Iterable[Breaker], closed: Mapping[tuple[str, str], str]
) -> Mapping[tuple[str, str], str]:
    """Return the node types of which one burst is to be tried, with the reason for no other."""
    half_open = {(b.plugin, b.node_type): b for b in breakers if b.retry_at is not None}
    return {
        key: f"another burst of it is tried first, as {_times(breaker)}"
        for key, breaker in half_open.items()
        if key not in closed
    }


def _times(breaker: Breaker) -> str:
    return f"it failed {counted(breaker.failures, 'time')} in a row, last with: {breaker.error}"
