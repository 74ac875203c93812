"""The user's selector and ordering, registered as hooks that answer first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fluxburst.config.file import Config
from fluxburst.errors import ConfigError, OrderingError, RequestError, did_you_mean
from fluxburst.hooks.manager import Manager
from fluxburst.hookspecs import hookimpl
from fluxburst.model.job import Job
from fluxburst.plugin import orderings, selectors
from fluxburst.plugin.base import BurstPlugin


class UserFunctions:
    """The selector and the ordering of one client's user; none by default.

    Args:
        hooks: The client's hooks.
    """

    def __init__(self, hooks: Manager) -> None:
        self._hooks = hooks
        self._selector: _Selector | None = None
        self._ordering: _Ordering | None = None

    def configure(self, config: Config, around: selectors.Surroundings) -> None:
        """Replace both with those named by a configuration.

        Args:
            config: The configuration.
            around: Where selectors get free nodes and the time.

        Raises:
            ConfigError: if one is unknown, or lacks a requirement.
        """
        self.reset_selector()
        self._reset_ordering()
        try:
            if config.selector is not None:
                self.set_selector(selectors.from_config(config.selector, around))
            if config.ordering is not None:
                self.set_ordering(orderings.from_config(config.ordering))
        except RequestError as error:
            raise ConfigError(config.source, str(error)) from error

    def set_selector(self, function: Callable[[Job], Any]) -> None:
        """Select jobs by a function. See :meth:`~fluxburst.client.FluxBurst.set_selector`."""
        _check_callable(function, "selector")
        self.reset_selector()
        self._selector = _Selector(function)
        self._hooks.register(self._selector, _name_of(function))

    def reset_selector(self) -> None:
        """Select jobs as by default."""
        self._hooks.unregister(self._selector)
        self._selector = None

    def set_ordering(self, function: orderings.Ordering) -> None:
        """Order plugins by a function. See :meth:`~fluxburst.client.FluxBurst.set_ordering`."""
        _check_callable(function, "ordering")
        self._reset_ordering()
        self._ordering = _Ordering(function)
        trusted = function in orderings.ORDERINGS.values()
        self._hooks.register(self._ordering, _name_of(function), trusted=trusted)

    def _reset_ordering(self) -> None:
        self._hooks.unregister(self._ordering)
        self._ordering = None


class _Selector:
    """A user's selector, as a hook implementation that answers first."""

    def __init__(self, function: Callable[[Job], Any]) -> None:
        self._function = function

    @hookimpl(tryfirst=True)
    def fluxburst_select_job(self, job: Job) -> bool:
        return bool(self._function(job))


class _Ordering:
    """A user's ordering, as a hook implementation that answers first."""

    def __init__(self, function: orderings.Ordering) -> None:
        self._function = function

    @hookimpl(tryfirst=True)
    def fluxburst_order_plugins(self, plugins: Mapping[str, BurstPlugin]) -> Sequence[str]:
        return [self._name(item, plugins) for item in self._function(plugins)]

    def _name(self, item: Any, plugins: Mapping[str, BurstPlugin]) -> str:
        which = f"the ordering {_name_of(self._function)}"
        if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], str):
            raise OrderingError(f"{which} must yield (name, plugin), but yielded {item!r}")
        name = item[0]
        if name not in plugins:
            nearest = did_you_mean(name, plugins)
            raise OrderingError(f"{which} names the plugin {name!r}, which is not loaded{nearest}")
        return name


def _check_callable(function: object, what: str) -> None:
    if not callable(function):
        raise RequestError(f"a {what} must be a function, not {function!r}")


def _name_of(function: Callable[..., Any]) -> str:
    """Return a user function's name for messages."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
