"""A plugin's known bursts: a mapping that rejects anything else."""

from __future__ import annotations

from typing import Any

from fluxburst.model.burst import Burst


class KnownBursts(dict[str, Burst]):
    """Bursts by name.

    Raises:
        TypeError: to a caller who puts anything else in.
    """

    def __init__(self, *bursts: Any) -> None:
        super().__init__()
        self.update(*bursts)

    def __setitem__(self, name: str, burst: Burst) -> None:
        if not isinstance(name, str) or not isinstance(burst, Burst):
            raise TypeError(f"bursts must map names to Bursts, not {name!r} to {burst!r}")
        super().__setitem__(name, burst)

    def setdefault(self, name: str, burst: Burst) -> Burst:
        """Add a burst unless the name is taken; return the one that is stored."""
        if name not in self:
            self[name] = burst
        return self[name]

    def update(self, *bursts: Any, **named: Burst) -> None:
        """Add bursts, as :meth:`dict.update` does."""
        for name, burst in dict(*bursts, **named).items():
            self[name] = burst

    def __ior__(self, bursts: Any) -> KnownBursts:  # type: ignore[override, misc]
        self.update(bursts)
        return self
