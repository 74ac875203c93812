"""The hook implementations of a package's object, each behind its guard."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fluxburst import hookspecs
from fluxburst.errors import HookError, did_you_mean
from fluxburst.hooks.guards import (
    COLLECTED,
    TOLD,
    guard_answer,
    guard_observer,
    guard_observing_wrapper,
    guard_wrapper,
)

_FUNCTIONS = (types.FunctionType, types.MethodType, staticmethod, classmethod)


@dataclass(frozen=True)
class Guarded:
    """The guarded hook implementations of one registered object.

    Attributes:
        distribution: The distribution to blame.
        proxy: The object registered in its place.
        functions: Its implementations, by hook.
    """

    distribution: str
    proxy: types.ModuleType
    functions: Mapping[str, Sequence[Callable[..., Any]]]

    def collected(self, hook: str) -> list[Any]:
        """Call the implementations of a collected hook."""
        return [item for function in self.functions.get(hook, ()) for item in function() or ()]


@dataclass(frozen=True)
class Guards:
    """Puts guards around hook implementations.

    Attributes:
        options_of: Returns the options of an object's method as a hook implementation, or None.
        note: Called with the distribution that answered.
        record: Called with an observer's error.
    """

    options_of: Callable[[object, str], Mapping[str, Any] | None]
    note: Callable[[str], None]
    record: Callable[[HookError], None]

    def of(self, plugin: object, distribution: str, *, trusted: bool = False) -> Guarded:
        """Put a guard around each hook implementation of an object.

        Args:
            plugin: The object.
            distribution: The distribution to blame for its errors.
            trusted: It belongs to fluxburst and does not modify its arguments.

        Raises:
            HookError: if a hook is unknown, or has an unsuitable wrapper.
        """
        known = [name for name in vars(hookspecs) if name.startswith("fluxburst_")]
        proxy = types.ModuleType(f"{distribution} (guarded)")
        functions: dict[str, list[Callable[..., Any]]] = {}
        for name in dir(plugin):
            # Older versions of pluggy evaluate properties to look for hooks in them.
            if not isinstance(inspect.getattr_static(plugin, name, None), _FUNCTIONS):
                continue
            options = self.options_of(plugin, name)
            if options is None:
                continue
            hook = options.get("specname") or name
            if hook not in known and not options.get("optionalhook"):
                raise HookError(
                    hook, distribution, f"there is no such hook{did_you_mean(hook, known)}"
                )
            function = getattr(plugin, name)
            if options.get("wrapper") or options.get("hookwrapper"):
                guarded = self._around_wrapper(function, hook, distribution)
            elif hook in TOLD:
                guarded = guard_observer(function, hook, distribution, self.record)
            else:
                guarded = guard_answer(function, hook, distribution, self.note, trusted=trusted)
            setattr(proxy, name, guarded)
            functions.setdefault(hook, []).append(guarded)
        return Guarded(distribution, proxy, functions)

    def _around_wrapper(
        self, function: Callable[..., Any], hook: str, distribution: str
    ) -> Callable[..., Any]:
        if hook in COLLECTED:
            raise HookError(hook, distribution, "is collected, so it cannot be wrapped")
        if not inspect.isgeneratorfunction(function):
            raise HookError(hook, distribution, "its wrapper does not yield")
        if hook in TOLD:
            return guard_observing_wrapper(function, hook, distribution, self.record)
        return guard_wrapper(function, hook, distribution)
