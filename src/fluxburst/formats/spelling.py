"""Alternative spellings: of plugin names, and of yes and no."""

from __future__ import annotations

from collections.abc import Iterable

_TRUE = frozenset({"1", "true", "yes", "on", "y"})
_FALSE = frozenset({"0", "false", "no", "off", "n"})


def truth(text: str) -> bool | None:
    """Parse a boolean in any case: ``yes``, ``off``, ``False``; None for another word."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


def plain_name(name: str) -> str:
    """Return the canonical spelling of a name: ``Compute-Engine`` is ``compute_engine``."""
    return name.strip().lower().replace("-", "_")


def known_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` spells, or ``name`` itself if there is none.

    An exact match takes precedence over other spellings.
    """
    names = list(known)
    if name in names:
        return name
    plain = plain_name(name)
    return next((one for one in names if plain_name(one) == plain), name)
