"""The machine types of Compute Engine in this package's table, with their prices."""

from __future__ import annotations

import functools
import importlib.resources

from fluxburst.provider.machine_types import MachineTypes, load

FILE = "machine_types.toml"


@functools.cache
def machine_types() -> MachineTypes:
    """Return the table in this package."""
    text = importlib.resources.files(__package__).joinpath(FILE).read_text()
    return load(text, f"{__package__}/{FILE}")
