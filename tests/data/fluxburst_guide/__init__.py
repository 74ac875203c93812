"""A burst plugin written as those of flux-burst 0.0.15 were: a name, an init, no entry point."""

from __future__ import annotations

from typing import Any


def init(dataclass: Any, **kwargs: Any) -> Any:
    from .plugin import FluxBurstGuide

    return FluxBurstGuide(dataclass, **kwargs)
