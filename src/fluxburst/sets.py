"""The two compact notations that Flux writes ranks and hosts in: idsets and hostlists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from fluxburst.errors import FormatError

_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
_NAME = r"[^\[\],\x00-\x20\x7f-\U0010ffff]*"  # printable ASCII, save what has a meaning here
_HOST = re.compile(rf"(?P<prefix>{_NAME})(?:\[(?P<ranges>[^\[\]]+)\](?P<suffix>{_NAME}))?")
_IDSET = "an idset (RFC 22), such as 0-3,7"
_HOSTLIST = "a hostlist (RFC 29), such as lead,node[1-8]"

MAX_EXPANSION = 1_000_000
"""More members than this in one notation are taken for a mistake (or an attack) and refused."""


def _ranges(text: str, whole: str, expected: str) -> Iterator[tuple[str, str | None]]:
    """Yield each comma-separated range: its first number, and its last if it has one."""
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise FormatError(whole, expected)
        yield match[1], match[2]


def _is_number(text: str) -> bool:
    """Whether a number of an idset is written as RFC 22 wants it, without leading zeros."""
    return text == str(int(text))


def _idset_ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of an idset; RFC 22 wants them in ascending order, without leading zeros."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    previous = -1
    for first, last in _ranges(inner, text, _IDSET) if inner else ():
        wrong = int(first) <= previous or not _is_number(first)
        if wrong or (last is not None and (not _is_number(last) or last == first)):
            raise FormatError(text, _IDSET)
        previous = int(last or first)
        yield int(first), previous


def parse_idset(text: str) -> tuple[int, ...]:
    """Expand an idset (RFC 22), such as ``0-3,7``, to its ids in ascending order.

    Raises:
        FormatError: if the text is not an idset.
    """
    ranges = list(_idset_ranges(text))
    if sum(last - first + 1 for first, last in ranges) > MAX_EXPANSION:
        raise FormatError(text, _IDSET)
    return tuple(member for first, last in ranges for member in range(first, last + 1))


def idset_minimum(text: str) -> int:
    """Return the smallest id of an idset that is not empty, without expanding it.

    Raises:
        FormatError: if the text is not an idset, or an empty one.
    """
    ranges = list(_idset_ranges(text))
    if not ranges:
        raise FormatError(text, _IDSET)
    return ranges[0][0]


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


def _split_outside_brackets(text: str) -> Iterator[str]:
    depth = start = 0
    for position, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def parse_hostlist(text: str) -> tuple[str, ...]:
    """Expand a hostlist (RFC 29), such as ``lead,burst[0-2]``, in its order.

    Raises:
        FormatError: if the text is not a hostlist.
    """
    hosts: list[str] = []
    for part in _split_outside_brackets(text.strip()):
        if part.strip():
            hosts.extend(_expand_host(part.strip(), text, MAX_EXPANSION - len(hosts)))
    return tuple(hosts)


def _expand_host(part: str, whole: str, most: int) -> list[str]:
    match = _HOST.fullmatch(part)
    if match is None:
        raise FormatError(whole, _HOSTLIST)
    if match["ranges"] is None:
        return [part]
    ranges = [
        (first, int(last or first)) for first, last in _ranges(match["ranges"], whole, _HOSTLIST)
    ]
    if sum(last - int(first) + 1 for first, last in ranges) > most:
        raise FormatError(whole, _HOSTLIST)
    return [
        f"{match['prefix']}{number:0{len(first)}d}{match['suffix']}"
        for first, last in ranges
        for number in range(int(first), last + 1)
    ]
