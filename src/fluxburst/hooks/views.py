"""Arguments of hooks: read-only views and copies, so that a hook cannot affect others."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from fluxburst.model.burst import BurstRequest
from fluxburst.model.job import Job
from fluxburst.plugin.base import BurstPlugin


class LoadedPlugins(OrderedDict[str, BurstPlugin]):
    """The loaded plugins by name; hooks cannot change it.

    Args:
        in_hook: Whether this thread is inside a hook.
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
        """Move a plugin to the end of the order, or to the front."""
        self._check()
        super().move_to_end(key, last)


class _ReadOnly(dict[Any, Any]):
    """A dict that raises a clear error when it is changed."""

    def _refused(self, *_: object, **__: object) -> NoReturn:
        _refuse()

    __setitem__ = __delitem__ = __ior__ = _refused
    clear = pop = popitem = setdefault = update = _refused


def _refuse() -> NoReturn:
    raise TypeError("hooks cannot change the loaded plugins or jobs")


def own(argument: Any) -> Any:
    """Return an implementation's own copy of a hook's argument."""
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
