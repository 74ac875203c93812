"""Validates the answers of burst plugins before any of it is recorded.

A provider's library may return anything: a number as text, more nodes than requested, an
expired lease. Records decide about money, so answers are checked on arrival.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from fluxburst.errors import BurstError, writable
from fluxburst.formats.units import counted
from fluxburst.model.burst import COMING_STATES, LEAVING_STATES, Burst, BurstState

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", re.ASCII)
"""One part of a hostname (RFC 1123); Flux and Slurm also accept an underscore within."""


_MANY = 2**31 - 1
"""The largest number of nodes, or exit code, that is recorded."""

_LATEST = 253402300799.0
"""The end of the year 9999, the last date that can be displayed: a later lease counts as none."""


def check_created(answer: object, asked: Burst) -> Burst:
    """Return the answer of ``create()``.

    Raises:
        BurstError: if it is not the requested burst, or reports that it did not come up.
    """
    burst = check_burst(answer, asked, "create()")
    if burst.state not in COMING_STATES | {BurstState.READY}:
        verb = "is" if burst.state in LEAVING_STATES else "has"
        raise BurstError(burst.error or f"create() returned that it {verb} {burst.state.value}")
    return burst


def check_burst(answer: object, asked: Burst, what: str) -> Burst:
    """Return a plugin's answer about a burst; its ownership stays as in the question.

    Args:
        answer: The answer.
        asked: The burst in question; if it has 0 nodes, the answer may have any number.
        what: The method called.

    Raises:
        BurstError: if it is not a burst, is another one, or has impossible values.
    """
    if not isinstance(answer, Burst):
        raise BurstError(f"{what} returned {answer!r}, which is not a burst")
    if answer.name != asked.name:
        raise BurstError(f"{what} returned burst {answer.name!r} for burst {asked.name!r}")
    for field, problem in _problems(answer):
        value = getattr(answer, field)
        raise BurstError(f"{what} returned a burst whose {field} {problem}: {_short(value)}")
    for problem in filter(None, (why_too_many(answer, asked), why_not_ended_there(answer, asked))):
        raise BurstError(f"{what} returned {problem}")
    # Money is reserved up to the requested lease; the service ends the burst then, if nothing else.
    lease = answer.lease_until
    if lease is not None and lease > _LATEST:
        lease = asked.lease_until
    elif lease is not None and asked.lease_until is not None:
        lease = min(lease, asked.lease_until)
    error, waiting_for = answer.error, answer.waiting_for
    comes = answer.state in COMING_STATES and answer.exit_code is None
    if comes and not waiting_for:  # some plugins say in error what a burst waits for
        error, waiting_for = "", error
    return replace(
        answer,
        plugin=asked.plugin,
        node_type=writable(answer.node_type),
        error=writable(error),
        waiting_for=writable(waiting_for),
        output=writable(answer.output),
        # And for as many nodes as requested, until it is known to have fewer.
        nodes=answer.nodes or asked.nodes,
        lease_until=lease,
        isolated=asked.isolated,
        end_reason=asked.end_reason,
        leftover=asked.leftover,
    )


def why_too_many(answer: Burst, asked: Burst) -> str:
    """Return the problem with a burst's number of nodes; empty if there is none."""
    if not asked.nodes or answer.nodes <= asked.nodes:
        return ""
    return f"that it has {counted(answer.nodes, 'node')}, more than the {asked.nodes} requested"


def why_not_ended_there(answer: Burst, asked: Burst) -> str:
    """Return the problem with the end of a burst's job; empty if there is none.

    Only in isolated bursts, jobs run whose end the instance does not know.
    """
    if asked.isolated or (answer.exit_code is None and not answer.output):
        return ""
    if answer.exit_code is None:
        return f"an output, {_short(answer.output)}, of a burst that is not isolated"
    return f"an exit code, {answer.exit_code}, of a burst that is not isolated"


def check_adopted(answer: object, plugin: str) -> tuple[dict[str, Burst | None], list[BurstError]]:
    """Return the bursts that a plugin's ``adopt()`` returned, by name, and the problems.

    A burst with impossible values is believed to exist, but nothing else about it: None.

    Raises:
        BurstError: if they are not bursts with names.
    """
    if not isinstance(answer, Iterable) or isinstance(answer, (str, bytes)):
        raise BurstError(f"adopt() returned {answer!r}, not the existing bursts")
    bursts = list(answer)
    for burst in bursts:
        if not isinstance(burst, Burst):
            raise BurstError(f"adopt() returned {bursts!r}, not the existing bursts")
        check_name(burst.name, "adopt()")
    found: dict[str, Burst | None] = {}
    wrong: list[BurstError] = []
    for burst in bursts:
        asked = Burst(burst.name, plugin, "", 0, isolated=burst.isolated)
        try:
            found[burst.name] = check_burst(burst, asked, "adopt()")
        except BurstError as error:
            error.plugin, error.burst = plugin, burst.name
            found[burst.name] = None
            wrong.append(error)
    return found, wrong


def check_names(answer: object, what: str) -> Collection[str]:
    """Return the names of bursts in a plugin's answer.

    Raises:
        BurstError: if it is not a collection of valid burst names.
    """
    if isinstance(answer, str) or not isinstance(answer, Collection):
        raise BurstError(f"{what} returned {answer!r}, not the names of bursts")
    for name in answer:
        check_name(name, what)
    return answer


def check_name(name: object, what: str) -> None:
    """Check that a name is valid for a burst.

    Raises:
        BurstError: if not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BurstError(
            f"{what} returned {_short(name)}, which is not the name of a burst: it has up to 253 "
            "letters, digits, and . _ - within"
        )


def _problems(burst: Burst) -> Iterable[tuple[str, str]]:
    """Yield the fields with impossible values, and why."""
    if not isinstance(burst.state, BurstState):
        yield "state", "is not a BurstState"
    for field in ("node_type", "error", "output", "waiting_for"):
        if not isinstance(getattr(burst, field), str):
            yield field, "is not text"
    yield from _problems_of_nodes(burst)
    if not isinstance(burst.jobs, tuple) or not all(map(_is_jobid, burst.jobs)):
        yield "jobs", "is not a tuple of ids"
    yield from _problems_of_hosts(burst)
    for field in ("since", "lease_until"):
        when = getattr(burst, field)
        bound = _LATEST if field == "since" else math.inf
        if when is not None and not (_is_amount(when) and when <= bound):
            yield field, "is not a time in seconds since the epoch"
    yield from _problems_of_isolation(burst)


def _problems_of_nodes(burst: Burst) -> Iterable[tuple[str, str]]:
    for field in ("nodes", "joined"):
        number = getattr(burst, field)
        if not _is_int(number) or not 0 <= number <= _MANY:
            yield field, "is not a number of nodes"
    if burst.state is BurstState.READY and burst.nodes == 0:
        yield "nodes", "is 0, though it is ready"
    if not _is_amount(burst.price):
        yield "price", "is not a price"


def _problems_of_hosts(burst: Burst) -> Iterable[tuple[str, str]]:
    hosts = burst.hostnames
    if not isinstance(hosts, tuple) or not all(isinstance(host, str) for host in hosts):
        yield "hostnames", "is not a tuple of text"
    elif not all(map(_is_hostname, hosts)):
        yield "hostnames", "has one that is not a hostname (RFC 1123)"
    elif len(set(hosts)) < len(hosts):
        yield "hostnames", "names a host twice"
    # The size of a failed burst may be unknown by now; the hosts are those that remain.
    elif len(hosts) > burst.nodes and burst.state is not BurstState.FAILED:
        yield "hostnames", f"are more than its {counted(burst.nodes, 'node')}"


def _is_hostname(name: str) -> bool:
    return len(name) <= 253 and all(map(_LABEL.fullmatch, name.split(".")))


def _problems_of_isolation(burst: Burst) -> Iterable[tuple[str, str]]:
    if not isinstance(burst.isolated, bool):
        yield "isolated", "is not true or false"
    code = burst.exit_code
    if code is not None and not (_is_int(code) and abs(code) <= _MANY):
        yield "exit_code", "is not a valid exit code"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_jobid(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_amount(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value < math.inf  # type: ignore[operator]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}…"
