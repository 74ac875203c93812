"""Findings of a burst plugin for ``fluxburst doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        level: ``ok``; ``warning``: it works, but perhaps not as intended; ``error``: it does not.
        what: The finding.
        advice: How to fix it; empty if nothing needs fixing.
    """

    level: Literal["ok", "warning", "error"]
    what: str
    advice: str = ""
