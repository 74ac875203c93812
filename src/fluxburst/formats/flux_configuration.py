"""Directories of Flux configuration files (flux-config(5)), merged as Flux merges them.

An elastic instance's directory has ``config/`` with the files written by fluxburst, and beside
them an administrator's: access, limits, an IMP. Flux merges all that end in ``.toml``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluxburst.errors import RequestError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SYSTEM, FLUXION, ENCLOSURE = "system.toml", "fluxion.toml", "enclosure.toml"
OURS = (SYSTEM, FLUXION, ENCLOSURE)
"""The files that fluxburst writes and overwrites."""

NOTICE = (
    "# Written by fluxburst, which overwrites it: put your own settings into another file next to "
    "it.\n"
)
"""Distinguishes these files from an administrator's."""


def parse(name: str, text: str) -> dict[str, Any]:
    """Parse a configuration file.

    Raises:
        RequestError: if it is not TOML; says where and why.
    """
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise RequestError(f"the configuration {name} is not TOML: {error}") from error


def texts_in(directory: Path) -> dict[str, str]:
    """Return the files of a directory that Flux reads, by name; none if it does not exist.

    Raises:
        RequestError: if one is unreadable.
    """
    return {path.name: _text_of(path) for path in sorted(directory.glob("*.toml"))}


def read(directory: Path) -> dict[str, Any]:
    """Return Flux's merged configuration of a directory.

    Raises:
        RequestError: if a file is unreadable.
    """
    return merged(texts_in(directory))


def given(paths: Iterable[Path]) -> dict[str, str]:
    """Return additional files to write beside ours, by name.

    Raises:
        RequestError: if one is unreadable, is not TOML, or has an unusable name.
    """
    found: dict[str, str] = {}
    for path in paths:
        name = path.name
        if path.suffix != ".toml":
            raise RequestError(f"the configuration {path} must end in .toml, or Flux skips it")
        if name in OURS:
            raise RequestError(f"{name} is reserved for fluxburst: give {path} another name")
        if name in found:
            raise RequestError(f"two configurations are called {name}: rename one")
        found[name] = _text_of(path)
        parse(str(path), found[name])
    return found


def merged(texts: Mapping[str, str]) -> dict[str, Any]:
    """Merge files like Flux: in order of their names, table by table."""
    whole: dict[str, Any] = {}
    for name in sorted(texts):
        _merge(whole, parse(name, texts[name]))
    return whole


def check_together(texts: Mapping[str, str]) -> None:
    """Check that no two files contradict each other.

    Raises:
        RequestError: names the key, the files, and the values.
    """
    said: dict[tuple[str, ...], tuple[str, Any]] = {}
    for name in sorted(texts):
        for key, value in _leaves(parse(name, texts[name])):
            other, before = said.setdefault(key, (name, value))
            if before != value:
                raise RequestError(
                    f"{'.'.join(key)} is {_shown(value)} in {name}, but {_shown(before)} in "
                    f"{other}: remove one of them"
                )


def allows_guests(configuration: Mapping[str, Any]) -> bool:
    """Whether users other than the owner may connect (flux-config-access(5))."""
    access = configuration.get("access")
    return isinstance(access, Mapping) and access.get("allow-guest-user") is True


NO_IMP = (
    "guests are allowed (allow-guest-user in [access]), but [exec] imp is not set: the instance "
    "cannot run their jobs; set it to the path of flux-imp (flux-config-exec(5))"
)


def has_imp(configuration: Mapping[str, Any]) -> bool:
    """Whether jobs of users other than the owner can run (flux-config-exec(5))."""
    execution = configuration.get("exec")
    return isinstance(execution, Mapping) and bool(execution.get("imp"))


def lacks_imp(configuration: Mapping[str, Any]) -> bool:
    """Whether guests may connect although none of their jobs can run."""
    return allows_guests(configuration) and not has_imp(configuration)


def as_toml(configuration: Mapping[str, Any]) -> str:
    """Format a configuration as TOML, one line per key."""
    lines = [
        f"{'.'.join(map(toml_text, key))} = {_value(value)}"
        for key, value in _leaves(configuration)
    ]
    return "\n".join(lines) + "\n"


def with_others_of(directory: Path, text: str) -> str:
    """Merge an administrator's files into a configuration of ours."""
    others = {name: said for name, said in texts_in(directory).items() if name not in OURS}
    return as_toml(merged({**others, SYSTEM: text})) if others else text


def toml_text(value: object) -> str:
    """Format a string for Flux's TOML: as in JSON, but DEL is escaped, in capitals."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RequestError(f"the configuration {path} cannot be read: {why}") from error


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _leaves(
    table: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _shown(value: Any) -> str:
    text = _value(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _value(value: Any) -> str:
    """Format a TOML value; a table becomes an inline table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_text(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{toml_text(k)} = {_value(v)}' for k, v in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
