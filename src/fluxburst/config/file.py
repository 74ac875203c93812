"""The configuration file: TOML, strict; every message names the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fluxburst.config import policy
from fluxburst.config.conversion import CONVERSION_ERRORS, convert, reasons
from fluxburst.config.notification import Notification
from fluxburst.config.policy import Policy
from fluxburst.errors import ConfigError, FluxburstError, did_you_mean
from fluxburst.formats.spelling import known_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


VARIABLE = "FLUXBURST_CONFIG"
BLOCK_VARIABLE = "FLUXBURST_BLOCK"
_KEYS = ("block", "ordering", "plugins", "notify", "selector", *policy.TABLES)


@dataclass(frozen=True)
class Config:
    """Contents of a configuration file.

    Attributes:
        source: The file; empty if there is none.
        block: Names of packages to ignore.
        selector: The selector's description; None for the default.
        ordering: The ordering's name; None for the default.
        plugins: For each burst plugin to load, in order, its parameters.
        policy: Lifetimes, timeouts, retries and limits.
        notify: Receivers of events, each a :class:`~fluxburst.config.notification.Notification`.
        written: Spelling of plugin names in the file, if it differs from the plugin's own.
    """

    source: str = ""
    block: tuple[str, ...] = ()
    selector: Any = None
    ordering: Any = None
    plugins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    notify: Sequence[Notification] = ()
    written: Mapping[str, str] = field(default_factory=dict)

    def source_of(self, plugin: str) -> str:
        """Return the name of a plugin's table for messages."""
        return f"{self.source} [plugins.{self.written.get(plugin, plugin)}]"

    def spelled(self, known: Collection[str]) -> Config:
        """Return a copy with plugin names spelled as the known plugins are.

        Raises:
            ConfigError: if two tables belong to one burst plugin.
        """
        limits = self.policy.limits
        named = {"plugins": self.plugins, "limits.plugins": limits.plugins}
        for table, names in named.items():
            spellings: dict[str, str] = {}
            for name in names:
                other = spellings.setdefault(known_name(name, known), name)
                if other != name:
                    problem = f"'{table}.{other}' and '{table}.{name}' name one burst plugin"
                    raise ConfigError(self.source, problem)
        plugins = {known_name(name, known): table for name, table in self.plugins.items()}
        of_plugins = {known_name(name, known): table for name, table in limits.plugins.items()}
        return replace(
            self,
            plugins=plugins,
            policy=replace(self.policy, limits=replace(limits, plugins=of_plugins)),
            written={known_name(n, known): self.written.get(n, n) for n in self.plugins},
        )


def usual_places(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Return the usual places of a configuration file; the first existing one is used."""
    environ = os.environ if environ is None else environ
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    return [home / "fluxburst" / "fluxburst.toml", Path("/etc/fluxburst/fluxburst.toml")]


def find(explicit: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Load the named configuration file, ``FLUXBURST_CONFIG``'s, or one in the usual places.

    Raises:
        ConfigError: if a named file does not exist, or the file is invalid.
    """
    environ = os.environ if environ is None else environ
    if explicit is not None:
        return load(explicit)
    if environ.get(VARIABLE):
        return load(Path(environ[VARIABLE]))
    for place in usual_places(environ):
        try:
            there = place.is_file()
        except OSError as error:
            raise ConfigError(str(place), f"cannot be read: {error.strerror}") from error
        if there:
            return load(place)
    return Config()


def blocked_by_environment(environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the comma-separated names in ``FLUXBURST_BLOCK``."""
    environ = os.environ if environ is None else environ
    return tuple(n.strip() for n in environ.get(BLOCK_VARIABLE, "").split(",") if n.strip())


def load(path: Path) -> Config:
    """Read one configuration file.

    Raises:
        ConfigError: if it is unreadable, is not TOML, or has an unknown key or a wrong type.
    """
    source = str(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(source, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, "is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(source, f"is not TOML: {error}") from error
    for key in content:
        if key not in _KEYS:
            raise ConfigError(source, f"unknown key {key!r}{did_you_mean(key, _KEYS)}")
    block = content.get("block", [])
    if not isinstance(block, list) or not all(isinstance(name, str) for name in block):
        raise ConfigError(source, f"'block' must be a list of names, got {block!r}")
    plugins = content.get("plugins", {})
    if not isinstance(plugins, dict):
        raise ConfigError(source, "'plugins' must be a table of tables, [plugins.NAME]")
    for name, table in plugins.items():
        if not isinstance(table, dict):
            raise ConfigError(source, f"'plugins.{name}' must be a table, [plugins.{name}]")
    return Config(
        source,
        tuple(block),
        content.get("selector"),
        content.get("ordering"),
        plugins,
        policy.read({key: content[key] for key in policy.TABLES if key in content}, source),
        _notifications(content.get("notify", []), source),
    )


def _notifications(tables: Any, source: str) -> Sequence[Notification]:
    if not isinstance(tables, list):
        raise ConfigError(source, "'notify' must be a list of tables, [[notify]]")
    if not tables:
        return ()
    problems: list[str] = []
    made: list[Notification] = []
    for number, table in enumerate(tables, start=1):
        try:
            made.append(convert(table, Notification, text=False))
        except (*CONVERSION_ERRORS, FluxburstError) as error:
            problems += [f"[[notify]] {number}: {reason}" for reason in reasons(error)]
    if problems:
        raise ConfigError(source, "; ".join(problems))
    return tuple(made)
