"""Loads burst plugins: turns a package's offer into a plugin that takes part."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from fluxburst.config import parameters
from fluxburst.config.file import Config
from fluxburst.errors import BurstError, FluxburstError, UnknownPluginError, described
from fluxburst.flux.protocol import Instance
from fluxburst.formats.spelling import known_name
from fluxburst.hooks.manager import Manager
from fluxburst.hooks.views import LoadedPlugins
from fluxburst.plugin.base import BurstPlugin, PluginType, as_burst_error


class Loader:
    """Loads the burst plugins of one client, and unloads them.

    Args:
        hooks: The client's hooks, which know the available plugins.
        instance: The instance that the plugins serve.

    Attributes:
        plugins: The loaded plugins by name, in the order of loading.
    """

    def __init__(self, hooks: Manager, instance: Instance) -> None:
        self._hooks = hooks
        self._instance = instance
        self.plugins = LoadedPlugins(lambda: hooks.in_hook)

    def load(
        self, name: str, given: Any, arguments: Mapping[str, Any], config: Config, *, validate: bool
    ) -> BurstPlugin:
        """Load a burst plugin; it replaces a loaded plugin of the same name.

        Args:
            name: Its name, in any spelling.
            given: An object of its parameters; None to use only the other sources.
            arguments: Further arguments for its factory.
            config: The configuration with its table of parameters.
            validate: Ask it to validate itself.

        Raises:
            UnknownPluginError: if no package taking part offers it.
            ParameterError: if the parameters are invalid.
            BurstError: if the plugin refuses them, or its construction fails.
        """
        offer = self._hooks.offer(name)
        name = offer.plugin_type.name
        params = parameters.build(
            name,
            offer.parameters(given),
            config=config.plugins.get(name),
            config_source=config.source_of(name),
            given=given,
        )
        plugin = _made(offer.plugin_type, params, arguments)
        self._introduce(plugin, name, validate)
        if name in self.plugins:  # the answers that it waits for are about these
            plugin.bursts = self.plugins[name].bursts
        self._add(name, plugin, offer.package.distribution)
        return plugin

    def loaded(self, name: str) -> BurstPlugin:
        """Return a loaded plugin by its name, in any spelling.

        Raises:
            UnknownPluginError: if it is not loaded.
        """
        name = known_name(name, self.plugins)
        if name not in self.plugins:
            raise UnknownPluginError(name, list(self.plugins), why="not loaded")
        return self.plugins[name]

    def put_back(self, before: Mapping[str, BurstPlugin]) -> None:
        """Restore the plugins that were loaded before."""
        for name in list(self.plugins):
            if name not in before:
                self._hooks.unregister(self.plugins.pop(name))
            elif self.plugins[name] is not before[name]:
                self._add(name, before[name], self._hooks.offer(name).package.distribution)

    def _introduce(self, plugin: BurstPlugin, name: str, validate: bool) -> None:
        """Tell a plugin its client, and have it validate itself."""
        try:
            plugin.name = name
            plugin.belongs_to(functools.partial(getattr, self._instance, "name"))
            valid = not validate or plugin.validate()
        except FluxburstError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise as_burst_error(error, name) from error
        if not valid:
            raise BurstError("its validate() refused the parameters", plugin=name)

    def _add(self, name: str, plugin: BurstPlugin, distribution: str) -> None:
        self._hooks.unregister(self.plugins.get(name))
        self._hooks.register(plugin, distribution)
        self.plugins[name] = plugin


def _made(kind: PluginType[Any], params: Any, arguments: Mapping[str, Any]) -> BurstPlugin:
    """Call a plugin's factory, which is foreign code."""
    try:
        plugin = kind.factory(params, **arguments)
    except FluxburstError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BurstError(f"construction failed: {described(error)}", plugin=kind.name) from error
    if not isinstance(plugin, BurstPlugin) or not hasattr(plugin, "jobs"):
        raise BurstError(
            "must be a fluxburst.BurstPlugin whose __init__ calls super().__init__(), "
            f"not a {type(plugin).__qualname__}",
            plugin=kind.name,
        )
    return plugin
