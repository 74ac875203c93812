"""What a plugin knows of its bursts: a mapping that nobody can break for others who read it."""

from __future__ import annotations

from typing import Any

from fluxburst.model.burst import Burst


class KnownBursts(dict[str, Burst]):
    """Bursts by name.

    Raises:
        TypeError: where something else is put in, to whoever does so.
    """

    def __init__(self, *bursts: Any) -> None:
        super().__init__()
        self.update(*bursts)

    def __setitem__(self, name: str, burst: Burst) -> None:
        if not isinstance(name, str) or not isinstance(burst, Burst):
            raise TypeError(f"bursts holds Bursts by name, and not {burst!r} by {name!r}")
        super().__setitem__(name, burst)

    def setdefault(self, name: str, burst: Burst) -> Burst:
        """Put a burst in if there is none of that name; return the one that is there."""
        if name not in self:
            self[name] = burst
        return self[name]

    def update(self, *bursts: Any, **named: Burst) -> None:
        """Put bursts in, as :meth:`dict.update` does."""
        for name, burst in dict(*bursts, **named).items():
            self[name] = burst

    def __ior__(self, bursts: Any) -> KnownBursts:  # type: ignore[override, misc]
        self.update(bursts)
        return self
