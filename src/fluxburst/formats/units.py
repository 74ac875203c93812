"""Durations and byte sizes: numbers that people write with a unit."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NewType

from fluxburst.errors import FormatError

Duration = NewType("Duration", float)
"""Seconds. As text a Flux Standard Duration (RFC 23): ``90``, ``2ms``, ``1.5h``, ``inf``."""

ByteSize = NewType("ByteSize", int)
"""Bytes. As text a number with an optional unit: ``512``, ``4GB`` (10^9), ``4GiB`` (2^30)."""

_SECONDS = {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(
    r"(?P<number>"
    r"0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?\d+)?"
    r"|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    r")(?P<unit>ms|s|m|h|d|)",
    re.ASCII,
)
_BYTES = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTPE", start=1):
    _BYTES[f"{_letter}B"] = 1000**_power
    _BYTES[f"{_letter}iB"] = _BYTES[_letter] = 1024**_power
_BYTES_FOLDED = {unit.lower(): factor for unit, factor in _BYTES.items()}
_SIZE = re.compile(
    r"(?P<number>\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})\s*(?P<unit>[A-Za-z]*)", re.ASCII
)


def parse_duration(text: str) -> Duration:
    """Parse a Flux Standard Duration (RFC 23) to seconds.

    Raises:
        FormatError: if the text is not one.
    """
    if text.lower() in ("inf", "infinity"):
        return Duration(math.inf)
    expected = "a Flux Standard Duration (RFC 23), such as 30s, 5m, 1.5h or 2d"
    match = _DURATION.fullmatch(text)
    if match is None:
        negative = text[:1] == "-" and _DURATION.fullmatch(text[1:])
        raise FormatError(text, f"{expected}, and not negative" if negative else expected)
    number = match["number"]
    try:
        value = float.fromhex(number) if number[:2].lower() == "0x" else float(number)
    except OverflowError as error:
        raise FormatError(text, expected) from error
    return Duration(value * _SECONDS[match["unit"]])


def format_duration(seconds: float) -> str:
    """Format seconds for people: the two largest nonzero units, such as ``1h30m``."""
    if math.isinf(seconds):
        return "inf"
    short = f"{seconds:.3g}"
    if float(short) < 60:
        return f"{short}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return "".join(f"{value}{unit}" for value, unit in parts[:2] if value)


def counted(number: int, noun: str) -> str:
    """Format a count for people, such as ``1 job`` or ``2 jobs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def parse_bytes(text: str) -> ByteSize:
    """Parse a byte size. ``K`` and ``KiB`` are 1024 bytes, ``KB`` 1000, and so on up to ``E``.

    Raises:
        FormatError: if the text is not one, or is not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    expected = "a byte size, such as 512MiB, 4GiB or 16GB"
    if match is None or match["unit"].lower() not in _BYTES_FOLDED:
        raise FormatError(text, expected)
    size = Fraction(match["number"]) * _BYTES_FOLDED[match["unit"].lower()]
    if size.denominator != 1:
        raise FormatError(text, f"{expected}, and a whole number of bytes")
    return ByteSize(int(size))


def format_bytes(size: int) -> str:
    """Format a byte size for people, in the largest binary unit that keeps it at 1 or more."""
    for unit in "EPTGMK":
        factor = _BYTES[f"{unit}iB"]
        if size >= factor:
            return f"{size / factor:.4g}{unit}iB"
    return f"{size}B"
