"""Flux's compact notations for ranks and hosts: idsets and hostlists."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from fluxburst.errors import FormatError

_RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_NAME = r"[^\[\],\x00-\x20\x7f-\U0010ffff]*"  # printable ASCII, save the special characters
_HOST = re.compile(rf"(?P<prefix>{_NAME})(?:\[(?P<ranges>[^\[\]]+)\](?P<suffix>{_NAME}))?")
_IDSET = "an idset (RFC 22), such as 0-3,7"
_HOSTLIST = "a hostlist (RFC 29), such as lead,node[1-8]"

_NUMBERED = re.compile(r"(.*?)(\d{1,17})(\D*)", re.ASCII)

MAX_EXPANSION = 1_000_000
"""A notation with more members is refused as a mistake (or an attack)."""


def _ranges(text: str, whole: str, expected: str) -> Iterator[tuple[str, str | None]]:
    """Yield each comma-separated range: its first number, and its last if there is one."""
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise FormatError(whole, expected)
        yield match[1], match[2]


def _is_number(text: str) -> bool:
    """Whether a number of an idset has no leading zeros, as RFC 22 requires."""
    return text == str(int(text))


def _idset_ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of an idset; RFC 22 requires ascending order and no leading zeros."""
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
    """Return the smallest id of a nonempty idset, without expanding it.

    Raises:
        FormatError: if the text is not an idset, or is empty.
    """
    ranges = list(_idset_ranges(text))
    if not ranges:
        raise FormatError(text, _IDSET)
    return ranges[0][0]


def idset_test(text: str) -> Callable[[int], bool]:
    """Return a test for membership in an idset (RFC 22), without expanding it.

    Raises:
        FormatError: if the text is not an idset.
    """
    ranges = list(_idset_ranges(text))
    firsts = [first for first, _ in ranges]

    def contains(member: int) -> bool:
        position = bisect_right(firsts, member)
        return position > 0 and member <= ranges[position - 1][1]

    return contains


def _runs(ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = previous = ids[0]
    for member in ids[1:]:
        if member != previous + 1:
            yield start, previous
            start = member
        previous = member
    yield start, previous


def format_idset(ids: Iterable[int]) -> str:
    """Format ids as an idset (RFC 22)."""
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


class _HostRange(NamedTuple):
    """Hosts that differ in a number; ``first`` keeps its leading zeros."""

    prefix: str
    first: str
    last: int
    suffix: str

    def contains(self, host: str) -> bool:
        """Whether a host belongs to the range."""
        if not (host.startswith(self.prefix) and host.endswith(self.suffix)):
            return False
        number = host[len(self.prefix) : len(host) - len(self.suffix)]
        return (
            _NUMBER.fullmatch(number) is not None
            and int(self.first) <= int(number) <= self.last
            and number == f"{int(number):0{len(self.first)}d}"
        )


def _host_parts(text: str) -> Iterator[str | list[_HostRange]]:
    """Yield each part of a hostlist: a name, or the ranges in its brackets."""
    for part in map(str.strip, _split_outside_brackets(text.strip())):
        if not part:
            continue
        match = _HOST.fullmatch(part)
        if match is None:
            raise FormatError(text, _HOSTLIST)
        if match["ranges"] is None:
            yield part
        else:
            yield [
                _HostRange(match["prefix"], first, int(last or first), match["suffix"])
                for first, last in _ranges(match["ranges"], text, _HOSTLIST)
            ]


def hostlist_test(text: str) -> Callable[[str], bool]:
    """Return a test for membership in a hostlist (RFC 29), without expanding it.

    Raises:
        FormatError: if the text is not a hostlist.
    """
    names: set[str] = set()
    ranges: list[_HostRange] = []
    for part in _host_parts(text):
        if isinstance(part, str):
            names.add(part)
            continue
        for hosts in part:
            if int(hosts.first) == hosts.last:
                names.add(f"{hosts.prefix}{hosts.first}{hosts.suffix}")
            else:
                ranges.append(hosts)
    if not ranges:
        return names.__contains__
    return lambda host: host in names or any(hosts.contains(host) for hosts in ranges)


def parse_hostlist(text: str) -> tuple[str, ...]:
    """Expand a hostlist (RFC 29), such as ``lead,burst[0-2]``, in its order.

    Raises:
        FormatError: if the text is not a hostlist.
    """
    hosts: list[str] = []
    for part in _host_parts(text):
        if isinstance(part, str):
            hosts.append(part)
        elif sum(r.last - int(r.first) + 1 for r in part) > MAX_EXPANSION - len(hosts):
            raise FormatError(text, _HOSTLIST)
        else:
            hosts.extend(
                f"{r.prefix}{number:0{len(r.first)}d}{r.suffix}"
                for r in part
                for number in range(int(r.first), r.last + 1)
            )
    return tuple(hosts)


def format_hostlist(hosts: Iterable[str]) -> str:
    """Format hosts as a hostlist (RFC 29), in order: runs of numbered names in brackets."""
    parts: list[str] = []
    for (prefix, suffix, numbered), numbers in itertools.groupby(
        map(_numbered, hosts), lambda host: host[0]
    ):
        run = [number for _, number in numbers]
        if len(run) == 1 or not numbered:
            parts += [f"{prefix}{number}{suffix}" for number in run]
        else:
            parts.append(f"{prefix}[{_number_ranges(run)}]{suffix}")
    return ",".join(parts)


def _numbered(host: str) -> tuple[tuple[str, str, bool], str]:
    """Split a name at its last number: prefix, suffix, whether there is a number, the number."""
    match = _NUMBERED.fullmatch(host)
    return ((match[1], match[3], True), match[2]) if match else ((host, "", False), "")


def _number_ranges(numbers: Sequence[str]) -> str:
    """Format numbers in their order and width; consecutive ones of equal width as a range."""
    runs: list[list[str]] = []
    for number in numbers:
        previous = runs[-1][-1] if runs else ""
        follows = previous and number == f"{int(previous) + 1:0{len(previous)}d}"
        if follows and len(number) == len(previous):
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
