"""A plugin's parameters, from defaults, configuration and environment.

Precedence, low to high: defaults, the configuration file's table, the object passed by the caller,
``FLUXBURST_<FIELD>``, ``FLUXBURST_<PLUGIN>_<FIELD>``. A field of that object that equals its
default counts as not set.

A field's ``metadata`` may have ``help`` (a sentence), ``secret`` (True: the value is never shown)
and ``aliases`` (former names that the configuration file and the environment may still use).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fluxburst.config.aliases import aliases_of
from fluxburst.config.conversion import CONVERSION_ERRORS, convert, reasons, type_name
from fluxburst.errors import ParameterError, Problem, did_you_mean

T = TypeVar("T")

PREFIX = "FLUXBURST_"
MASK = "********"
RESERVED = frozenset({"BLOCK", "CONFIG", "STATE_DIR"})
"""Fields with these names are read from ``FLUXBURST_<PLUGIN>_<FIELD>`` only."""


@dataclass(frozen=True)
class Value:
    """One parameter and its current value, for display: secrets are masked.

    Attributes:
        field: Its name.
        type: Its type, described for people.
        required: Whether it lacks a default.
        default: Its default; None if required.
        environment: The variables that set it, strongest first.
        help: Its purpose.
        value: Its current value; None if not set.
        source: Source of the current value; empty if not set.
    """

    field: str
    type: str
    required: bool
    default: Any
    environment: tuple[str, ...]
    help: str
    value: Any
    source: str


@dataclass(frozen=True)
class _Given:
    value: Any
    source: str
    text: bool = False


def variables(plugin: str, field: str, aliases: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the environment variables that set a parameter, strongest first."""
    names = [name.upper() for name in (field, *aliases)]
    own = [f"{PREFIX}{plugin.upper().replace('-', '_')}_{name}" for name in names if plugin]
    general = [f"{PREFIX}{name}" for name in names if name not in RESERVED]
    return (*own, *general)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return (
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _given_for(
    plugin: str,
    field: dataclasses.Field[Any],
    config: Mapping[str, Any],
    config_source: str,
    given: object | None,
    environ: Mapping[str, str],
) -> _Given | None:
    """Return the strongest source that sets this field."""
    for variable in variables(plugin, field.name, aliases_of(field)):
        if variable in environ:
            return _Given(environ[variable], f"environment variable {variable}", text=True)
    if given is not None:
        value = getattr(given, field.name)
        default = _default(field)
        if not _has_default(field) or type(value) is not type(default) or value != default:
            return _Given(value, "the object passed to load")
    for name in (field.name, *aliases_of(field)):
        if name in config:
            return _Given(config[name], config_source)
    return None


@functools.cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_secret(field: dataclasses.Field[Any], kind: Any) -> bool:
    """Whether a field's value must be hidden: it is secret or contains a secret."""
    if field.metadata.get("secret"):
        return True
    return any(
        _is_secret(inner, _types(part)[inner.name])
        for part in (kind, *_parts(kind))
        if dataclasses.is_dataclass(part) and isinstance(part, type)
        for inner in dataclasses.fields(part)
    )


def _parts(kind: Any) -> Iterator[Any]:
    """Yield a type's type arguments, recursively."""
    for argument in typing.get_args(kind):
        yield argument
        yield from _parts(argument)


def _problems_of(
    field: dataclasses.Field[Any], kind: Any, given: _Given, error: Exception
) -> list[Problem]:
    shown = "" if _is_secret(field, kind) else f", got {given.value!r}"
    return [Problem(field.name, given.source, f"{reason}{shown}") for reason in reasons(error)]


def build(
    plugin: str,
    kind: type[T],
    *,
    config: Mapping[str, Any] | None = None,
    config_source: str = "the config",
    given: T | None = None,
    environ: Mapping[str, str] | None = None,
) -> T:
    """Build a plugin's parameters. Does not change ``given``.

    Args:
        plugin: The plugin's name, for messages and for the names of variables.
        kind: The dataclass to build.
        config: The plugin's table in the config file.
        config_source: The table's name in messages.
        given: An object of ``kind``, or None.
        environ: Environment variables; by default the process's.

    Raises:
        ParameterError: names every problem at once.
    """
    config = config or {}
    environ = os.environ if environ is None else environ
    if given is not None:
        check_type(plugin, kind, given)
    if not dataclasses.is_dataclass(kind):
        raise ParameterError(plugin, [Problem(kind.__name__, "the plugin", "is not a dataclass")])
    fields = [field for field in dataclasses.fields(kind) if field.init]
    problems = _wrong_keys(config, config_source, fields)
    values: dict[str, Any] = {}
    for field in fields:
        source = _given_for(plugin, field, config, config_source, given, environ)
        if source is None:
            if not _has_default(field):
                where = " or ".join(variables(plugin, field.name))
                problems.append(
                    Problem(
                        field.name, "nowhere", f"is required; set it in the config or by {where}"
                    )
                )
            continue
        try:
            values[field.name] = convert(source.value, _types(kind)[field.name], text=source.text)
        except CONVERSION_ERRORS as error:
            problems += _problems_of(field, _types(kind)[field.name], source, error)
    if problems:
        raise ParameterError(plugin, problems)
    return _made(plugin, kind, values)


def _made(plugin: str, kind: type[T], values: Mapping[str, Any]) -> T:
    """Make the object; errors of its own checks become problems, with secrets removed."""
    try:
        return kind(**values)
    except CONVERSION_ERRORS as error:
        text = str(error)
        types_of_fields = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):  # type: ignore[arg-type]
            value = values.get(field.name)
            if _is_secret(field, types_of_fields[field.name]) and value not in (None, ""):
                text = text.replace(str(value), MASK)
        problem = Problem("parameters", "their combination", text)
        raise ParameterError(plugin, [problem]) from error


def check_type(plugin: str, kind: type, given: object) -> None:
    """Check that a parameter object has the plugin's dataclass.

    Raises:
        ParameterError: if it does not.
    """
    if not isinstance(given, kind):
        got = f"{type(given).__module__}.{type(given).__qualname__}"
        reason = f"expected an object of {kind.__module__}.{kind.__qualname__}, got {got}"
        raise ParameterError(plugin, [Problem("parameters", "the object passed to load", reason)])


def _wrong_keys(
    config: Mapping[str, Any], source: str, fields: Sequence[dataclasses.Field[Any]]
) -> list[Problem]:
    """Return the problems with keys: unknown parameters, and duplicates through aliases."""
    known = {name: field.name for field in fields for name in (field.name, *aliases_of(field))}
    problems, seen = [], dict[str, str]()
    for key in config:
        if key not in known:
            why = f"is not a parameter{did_you_mean(key, [field.name for field in fields])}"
            problems.append(Problem(key, source, why))
        elif known[key] in seen:
            why = f"and {seen[known[key]]} name the same parameter: set only {known[key]}"
            problems.append(Problem(key, source, why))
        else:
            seen[known[key]] = key
    return problems


def describe(
    plugin: str,
    kind: type,
    *,
    config: Mapping[str, Any] | None = None,
    config_source: str = "the config",
    environ: Mapping[str, str] | None = None,
) -> list[Value]:
    """Describe each parameter of a plugin and the source of its current value.

    Values are shown as written, before conversion; a secret shows as ``********``.
    """
    environ = os.environ if environ is None else environ
    described = []
    for field in dataclasses.fields(kind):
        source = _given_for(plugin, field, config or {}, config_source, None, environ)
        default = _default(field)
        value, origin = default, "default" if _has_default(field) else ""
        if source is not None:
            value, origin = source.value, source.source
        secret = _is_secret(field, _types(kind)[field.name])
        described.append(
            Value(
                field=field.name,
                type=type_name(_types(kind)[field.name]),
                required=not _has_default(field),
                default=_masked(default, secret),
                environment=variables(plugin, field.name, aliases_of(field)),
                help=str(field.metadata.get("help", "")),
                value=_masked(value, secret),
                source=origin,
            )
        )
    return described


def _masked(value: Any, secret: bool) -> Any:
    return MASK if secret and value not in (None, "") else value
