"""What hooks are given: they may look at it, and whatever they do to it stays with them."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from fluxburst.model.burst import BurstRequest
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin


class LoadedPlugins(OrderedDict[str, BurstPlugin]):
    """The loaded plugins, by name, which no hook can change.

    Args:
        in_hook: Whether a hook is being called in this thread.
    """

    def __init__(self, in_hook: Callable[[], bool]) -> None:
        super().__init__()
        self._in_hook = in_hook

    def _check(self) -> None:
        if self._in_hook():
            _refuse()

    def __setitem__(self, name: str, plugin: BurstPlugin) -> None:
        self._check()
        plugin.loaded_as(name)
        super().__setitem__(name, plugin)

    def __delitem__(self, name: str) -> None:
        self._check()
        super().__delitem__(name)

    def pop(self, *arguments: Any) -> Any:
        """Unload a plugin and return it."""
        self._check()
        return super().pop(*arguments)

    def popitem(self, last: bool = True) -> tuple[str, BurstPlugin]:
        """Unload the last plugin, or the first, and return it with its name."""
        self._check()
        return super().popitem(last)

    def clear(self) -> None:
        """Unload all plugins."""
        self._check()
        super().clear()

    def move_to_end(self, key: str, last: bool = True) -> None:
        """Have a plugin be the last that is offered jobs, or the first."""
        self._check()
        super().move_to_end(key, last)


class _ReadOnly(dict[Any, Any]):
    """A dict that says what is wrong where somebody would change it."""

    def _refused(self, *_: object, **__: object) -> NoReturn:
        _refuse()

    __setitem__ = __delitem__ = __ior__ = _refused
    clear = pop = popitem = setdefault = update = _refused


def _refuse() -> NoReturn:
    raise TypeError("a hook may look at the loaded plugins and jobs, and cannot change them")


def own(argument: Any) -> Any:
    """Return an argument of a hook as one implementation gets it, which has it for itself."""
    if isinstance(argument, Job):
        return argument.private()
    if isinstance(argument, BurstRequest):
        jobs = {jobid: own(job) for jobid, job in argument.jobs.items()}
        return dataclasses.replace(argument, jobs=_ReadOnly(jobs))
    if isinstance(argument, Mapping):
        return _ReadOnly(argument)
    if isinstance(argument, (list, tuple)):
        return tuple(map(own, argument))
    return argument
