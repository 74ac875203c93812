"""Old import paths of public names: each works for one release, with a warning.

``import fluxburst.OLD`` returns the module that has its names now; docs/migration.md lists them.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "fluxburst.bursts": "fluxburst.model.burst",
    "fluxburst.checks": "fluxburst.config.validators",
    "fluxburst.commands": "fluxburst.formats.process",
    "fluxburst.elastic": "fluxburst.provider.elastic",
    "fluxburst.elastic_directory": "fluxburst.provider.elastic_directory",
    "fluxburst.glance": "fluxburst.provider.probe",
    "fluxburst.handles.embedded": "fluxburst.simulation.embedded",
    "fluxburst.handles.protocol": "fluxburst.flux.protocol",
    "fluxburst.isolation": "fluxburst.provider.isolation",
    "fluxburst.jobs": "fluxburst.model.job",
    "fluxburst.joining": "fluxburst.provider.elastic_plugin",
    "fluxburst.machine_types": "fluxburst.provider.machine_types",
    "fluxburst.metrics": "fluxburst.service.metrics",
    "fluxburst.nodes": "fluxburst.model.node",
    "fluxburst.notify": "fluxburst.service.notifier",
    "fluxburst.ordering": "fluxburst.plugin.orderings",
    "fluxburst.parameters": "fluxburst.config.parameters",
    "fluxburst.plan": "fluxburst.model.plan",
    "fluxburst.plugins": "fluxburst.plugin.base",
    "fluxburst.policy": "fluxburst.config.policy",
    "fluxburst.prices": "fluxburst.provider.live_prices",
    "fluxburst.quantities": "fluxburst.formats.units",
    "fluxburst.recordings": "fluxburst.simulation.recordings",
    "fluxburst.selectors": "fluxburst.plugin.selectors",
    "fluxburst.sets": "fluxburst.formats.hostlist",
    "fluxburst.supply": "fluxburst.packing.pool",
}
"""New modules for the names of each old module."""

_PACKAGES = {name.rpartition(".")[0] for name in MOVED} - {"fluxburst"}


class _Moved:
    """Finds old modules, after all other finders: other imports pay nothing."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import an old module; None for any other."""
        if name not in MOVED and name not in _PACKAGES:
            return None
        # Not a Loader by name: importlib.abc takes as long to import as all of this package.
        return ModuleSpec(name, self, is_package=name in _PACKAGES)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Use an ordinary module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and fill an old module with the new one's names."""
        if module.__name__ in _PACKAGES:
            return
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} moved to {new}", DeprecationWarning, stacklevel=2)
        names = vars(importlib.import_module(new))
        vars(module).update((name, names[name]) for name in names if not name.startswith("__"))


def install() -> None:
    """Install the finder of old modules."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
