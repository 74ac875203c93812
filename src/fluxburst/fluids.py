"""Job ids as text: FLUIDs (RFC 19) in decimal and in F58, the form that ``flux jobs`` shows."""

from __future__ import annotations

from fluxburst.errors import FormatError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
LARGEST = 2**64 - 1
LONGEST = len(str(LARGEST))


def parse_fluid(text: str) -> int:
    """Read a job id: decimal (``1234``) or F58 (``ƒ2oHvV``, in ASCII ``f2oHvV``).

    Raises:
        FormatError: if it is neither.
    """
    expected = "a job id, such as 1234 or ƒ2oHvV (RFC 19)"
    stripped = text.strip()
    if len(stripped) > LONGEST:
        raise FormatError(text, expected)
    if stripped.isascii() and stripped.isdigit():
        value = int(stripped)
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
    """Write a job id in F58.

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
