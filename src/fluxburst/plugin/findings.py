"""What a burst plugin tells ``fluxburst doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        level: ``ok``; ``warning``: it works, but perhaps not as meant; ``error``: it does not.
        what: What was found.
        advice: What to do about it; empty where there is nothing to do.
    """

    level: Literal["ok", "warning", "error"]
    what: str
    advice: str = ""
