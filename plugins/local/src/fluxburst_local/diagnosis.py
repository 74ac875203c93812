"""Finds out from a broker's log why it did not join."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

LINES_SHOWN = 4
READ_BYTES = 65536

_CAUSES = (
    (
        r"(?P<host>\S+) not found in hosts",
        "its hostname {host} is not in the bootstrap configuration",
    ),
    (
        r"(?i)version mismatch(?:ed)?.*",
        "its Flux is of another version than the lead's ({0})",
    ),
    (
        r"handshake failed",
        "its certificate is not the lead's: both must use the same curve.cert",
    ),
    (
        r"unable to resolve upstream peer (?P<host>\S+):",
        "it cannot resolve the lead's address {host}",
    ),
    (
        r"Host key verification failed|Permission denied \(.*|Could not resolve hostname .*"
        r"|connect to host .*",
        "ssh: {0}",
    ),
    (
        r"(?:curve_cert|curve\.cert|zcert|certificate).*(?:Permission|No such|failed|readable).*",
        "its certificate is unusable ({0})",
    ),
    (
        r"rundir (?:length|error).*",
        "its run directory is unusable ({0})",
    ),
    (
        r"sockevent (?P<endpoint>tcp://\S+) (?:connect retried|closed|connect delayed)",
        "nothing answers at {endpoint}: is the lead's address right, and its port open from there?",
    ),
)
"""Messages of brokers and ssh, most specific first, and their meaning."""

_CONNECTED = re.compile(r"sockevent \S+ handshake succeeded")
_NOISE = re.compile(r"sockevent|broker\.debug|insmod|rmmod|sync-success")
_PREFIX = re.compile(r"^<\d>")


def explain(log: Path) -> str:
    """Return why a broker did not join, according to its log, with the log's last lines."""
    text = _tail(log)
    lines = [_PREFIX.sub("", line).strip() for line in text.splitlines()]
    said = [line for line in lines if line and not _NOISE.search(line)][-LINES_SHOWN:]
    shown = f"; {log} ends: {' | '.join(said)}" if said else f"; {log} is empty"
    return (_cause(text) or "its log gives no reason") + shown


def _cause(text: str) -> str:
    for pattern, meaning in _CAUSES:
        match = re.search(pattern, text)
        if match and not (meaning.startswith("nothing answers") and _CONNECTED.search(text)):
            return meaning.format(match[0].strip(), **match.groupdict())
    return ""


_OUT_OF_MEMORY = re.compile(
    r".*(?:oom[_-]kill|out-of-memory handler|\bOOM Killed\b).*", re.IGNORECASE
)
"""Messages of slurmstepd if the kernel killed a process of a step for lack of memory."""


def out_of_memory(logs: Sequence[tuple[str, Path]]) -> str:
    """Return the log line of a broker killed for lack of memory; empty if there is none.

    Args:
        logs: Hosts, with their brokers' logs.
    """
    for host, log in logs:
        match = _OUT_OF_MEMORY.search(_tail(log))
        if match:
            return f"it was killed for lack of memory on {host}: {match[0].strip()}"
    return ""


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - READ_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def explain_all(logs: Sequence[tuple[str, Path]], most: int = 3) -> str:
    """Return why brokers did not join, host by host, for at most ``most`` of them."""
    parts = [f"{host}: {explain(log)}" for host, log in logs[:most]]
    more = [f"and {len(logs) - most} more"] if len(logs) > most else []
    return ". ".join(parts + more)
