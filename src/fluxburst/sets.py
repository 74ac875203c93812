"""The two compact notations that Flux writes ranks and hosts in: idsets and hostlists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from fluxburst.errors import FormatError

_RANGE = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_HOSTNAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
MAX_EXPANSION = 1_000_000
"""More members than this in one notation are taken for a mistake (or an attack) and refused."""


def _ranges(text: str, whole: str, expected: str) -> Iterator[tuple[int, int, int]]:
    """Yield (first, last, zero-padded width) for each comma-separated range of ``text``."""
    size = 0
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise FormatError(whole, expected)
        first, last = match[1], match[2] or match[1]
        size += int(last) - int(first) + 1
        if int(last) < int(first) or size > MAX_EXPANSION:
            raise FormatError(whole, expected)
        yield int(first), int(last), len(first) if len(first) == len(last) else 0


def parse_idset(text: str) -> tuple[int, ...]:
    """Expand an idset (RFC 22), such as ``0-3,7``, to its ids in ascending order.

    Raises:
        FormatError: if the text is not an idset.
    """
    expected = "an idset (RFC 22), such as 0-3,7"
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not inner:
        return ()
    ids = {
        member
        for first, last, _ in _ranges(inner, text, expected)
        for member in range(first, last + 1)
    }
    return tuple(sorted(ids))


def _runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = previous = ids[0]
    for member in ids[1:]:
        if member != previous + 1:
            yield start, previous
            start = member
        previous = member
    yield start, previous


def format_idset(ids: Iterable[int]) -> str:
    """Write ids as an idset (RFC 22)."""
    ordered = sorted(set(ids))
    if not ordered:
        return ""
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in _runs(ordered))


def _split_outside_brackets(text: str, expected: str) -> Iterator[str]:
    depth = start = 0
    for position, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if depth not in (0, 1):
            raise FormatError(text, expected)
        if letter == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    if depth:
        raise FormatError(text, expected)
    yield text[start:]


def parse_hostlist(text: str) -> tuple[str, ...]:
    """Expand a hostlist (RFC 29), such as ``lead,burst[0-2]``, in its order.

    Raises:
        FormatError: if the text is not a hostlist.
    """
    expected = "a hostlist (RFC 29), such as lead,node[1-8]"
    if not text.strip():
        return ()
    hosts: list[str] = []
    for part in _split_outside_brackets(text.strip(), expected):
        hosts.extend(_expand_host(part.strip(), text, expected))
        if len(hosts) > MAX_EXPANSION:
            raise FormatError(text, expected)
    return tuple(hosts)


def _expand_host(part: str, whole: str, expected: str) -> list[str]:
    prefix, bracket, rest = part.partition("[")
    if not bracket:
        if not _HOSTNAME.fullmatch(part):
            raise FormatError(whole, expected)
        return [part]
    inside, _, suffix = rest.partition("]")
    tails = _expand_host(suffix, whole, expected) if suffix else [""]
    if (prefix and not _HOSTNAME.fullmatch(prefix)) or not inside:
        raise FormatError(whole, expected)
    return [
        f"{prefix}{number:0{width}d}{tail}"
        for first, last, width in _ranges(inside, whole, expected)
        for number in range(first, last + 1)
        for tail in tails
    ]
