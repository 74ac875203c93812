"""Packages that may take part: how they are found, and what each offers."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fluxburst.errors import HookError, ParameterError, Problem, described
from fluxburst.plugin.base import PluginType

GROUP = "fluxburst"
LIBRARIES = "fluxburst.libraries"
"""The group of packages that others build upon, and that take no part themselves."""

LEGACY_PREFIX = "fluxburst_"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)


@dataclass
class Package:
    """An installed package that takes part or could.

    Attributes:
        name: The name of its entry point, or else of its module.
        distribution: The distribution it was installed as.
        version: That distribution's version; empty if unknown.
        plugins: The burst plugins it offers.
        hooks: The hooks it implements.
        problem: Why it does not take part; empty if it does.
        blocked: The user has blocked it.
    """

    name: str
    distribution: str
    version: str = ""
    plugins: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    problem: str = ""
    blocked: bool = False


@dataclass(frozen=True)
class Offer:
    """An available burst plugin, and its package."""

    plugin_type: PluginType[Any]
    package: Package
    module: str = ""

    def parameters(self, given: object = None) -> type:
        """Return the dataclass of its parameters.

        A plugin with flux-burst's convention registers none: then the type of ``given`` counts, or
        else ``BurstParameters`` in its module or in the module's ``plugin``.

        Raises:
            ParameterError: if none is found.
        """
        if self.plugin_type.parameters is not None:
            return self.plugin_type.parameters
        if given is not None:
            return type(given)
        why = "the plugin does not name its dataclass of parameters"
        for name in (self.module, f"{self.module}.plugin") if self.module else ():
            try:
                kind = getattr(importlib.import_module(name), "BurstParameters", None)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - an import may raise anything
                why = f"{name} cannot be imported ({described(error)})"
                continue
            if isinstance(kind, type):
                return kind
        reason = f"{why}: pass an object to load()"
        raise ParameterError(self.plugin_type.name, [Problem("parameters", "nowhere", reason)])


@dataclass(frozen=True)
class Found:
    """An installed package, not imported yet.

    Attributes:
        package: The package.
        module: The module that takes part.
        load: Imports it.
        legacy: It follows flux-burst's convention, without an entry point.
    """

    package: Package
    module: str
    load: Callable[[], Any]
    legacy: bool = False


def installed_packages() -> Iterator[Found]:
    """Find every installed package, those with an entry point first; none is imported."""
    entries = importlib.metadata.entry_points()
    found = {(_distribution(entry), entry.name): entry for entry in entries.select(group=GROUP)}
    for (distribution, name), entry in sorted(found.items()):
        version = _metadata(entry, "Version")
        module = entry.value.partition(":")[0].strip()
        yield Found(Package(name, distribution, version), module, entry.load)
    known = [*found.values(), *entries.select(group=LIBRARIES)]
    modules = {entry.value.partition(":")[0].partition(".")[0] for entry in known}
    for info in sorted(pkgutil.iter_modules(), key=lambda info: info.name):
        if info.name.startswith(LEGACY_PREFIX) and info.name not in modules:
            load = functools.partial(importlib.import_module, info.name)
            yield Found(Package(info.name, info.name), info.name, load, legacy=True)


def is_plugin_type(kind: PluginType[Any]) -> bool:
    """Whether a package's offer has a valid name and a factory."""
    named = isinstance(kind.name, str) and _NAME.fullmatch(kind.name) is not None
    typed = kind.parameters is None or isinstance(kind.parameters, type)
    return named and typed and callable(kind.factory)


def legacy_type(module: Any, name: str) -> PluginType[Any]:
    """Wrap a module that follows flux-burst's convention: ``fluxburst_<name>`` with ``init``.

    Raises:
        HookError: if it does not follow the convention.
    """
    init = getattr(module, "init", None)
    if not callable(init):
        raise HookError(
            "registration",
            name,
            f"has neither an entry point in the group {GROUP!r} nor a function init(dataclass)",
        )
    return PluginType(name.removeprefix(LEGACY_PREFIX), None, init)


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    """Return an entry point's distribution; a half-removed one has lost its name."""
    return _metadata(entry, "Name") or entry.value


def _metadata(entry: importlib.metadata.EntryPoint, field: str) -> str:
    """Return a field of an entry point's distribution; empty if unknown."""
    # Not dist.name and dist.version: without METADATA they warn, and later versions will raise.
    metadata = entry.dist.metadata if entry.dist else None
    return metadata[field] if metadata is not None and field in metadata else ""
