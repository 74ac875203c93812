"""Job ids as text: FLUIDs (RFC 19). ``flux jobs`` shows them in F58.

Words and emoji are not supported: they need tables of thousands of words and pictures.
"""

from __future__ import annotations

import re

from fluxburst.errors import FormatError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
LARGEST = 2**64 - 1
LONGEST = len("job.0000.0000.0000.0000")
_HEXADECIMAL = re.compile(r"0x([0-9a-f]{1,16})", re.ASCII | re.IGNORECASE)
_DOTTED = re.compile(r"(?:job\.)?((?:[0-9a-f]{4}\.){3}[0-9a-f]{4})", re.ASCII | re.IGNORECASE)


def parse_fluid(text: str) -> int:
    """Parse a job id.

    In F58 (``ƒ2oHvV``, in ASCII ``f2oHvV``), decimal (``1234``), hexadecimal (``0x4d2``),
    dotted hexadecimal (``0000.0000.0000.04d2``), or as a path in the key-value store
    (``job.0000.0000.0000.04d2``).

    Raises:
        FormatError: if it is none of these.
    """
    expected = "a job id, such as 1234 or ƒ2oHvV (RFC 19)"
    stripped = text.strip()
    if len(stripped) > LONGEST:
        raise FormatError(text, expected)
    if stripped.isascii() and stripped.isdigit():
        value = int(stripped)
    elif match := _HEXADECIMAL.fullmatch(stripped) or _DOTTED.fullmatch(stripped):
        value = int(match[1].replace(".", ""), 16)
    else:
        prefix, digits = stripped[:1], stripped[1:]
        if prefix not in ("ƒ", "f") or not digits or any(d not in _ALPHABET for d in digits):
            raise FormatError(text, expected)
        value = 0
        for digit in digits:
            value = value * 58 + _ALPHABET.index(digit)
    if value > LARGEST:
        raise FormatError(text, expected)
    return value


def format_f58(value: int) -> str:
    """Format a job id in F58.

    Raises:
        FormatError: if it is below 0 or has more than 64 bits.
    """
    if not 0 <= value <= LARGEST:
        raise FormatError(value, "a job id, a number of 64 bits (RFC 19)")
    digits = ""
    while value:
        value, remainder = divmod(value, 58)
        digits = _ALPHABET[remainder] + digits
    return f"ƒ{digits or _ALPHABET[0]}"
