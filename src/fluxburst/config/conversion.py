"""Strict conversion of a value to the type of a dataclass field, with exact error messages.

A typed value (from TOML or Python) must already have the type; a text (from the environment)
is parsed. Paths, enums, durations and byte sizes are text in both cases.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import cattrs
from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn

from fluxburst.errors import FormatError, did_you_mean
from fluxburst.formats.spelling import truth
from fluxburst.formats.units import ByteSize, Duration, parse_bytes, parse_duration

CONVERSION_ERRORS = (
    BaseValidationError,
    StructureHandlerNotFoundError,
    FormatError,
    ValueError,
    TypeError,
    KeyError,
    ArithmeticError,
    RuntimeError,
)
"""Errors of :func:`convert`; :func:`reasons` describes them."""


class _ExpectationError(ValueError):
    """A value does not match its type. The text says what was expected."""


def type_name(kind: Any) -> str:
    """Describe a type for people: ``int or none``, ``list of text``, ``duration``."""
    origin, arguments = get_origin(kind), get_args(kind)
    simple = {
        bool: "true or false",
        int: "integer",
        float: "number",
        str: "text",
        Path: "path",
        Duration: "duration (30s, 5m, 1.5h)",
        ByteSize: "byte size (512MiB, 4GB)",
        Any: "anything",
        type(None): "none",
    }
    if _is_union(kind):
        return " or ".join(type_name(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(argument) for argument in arguments)
    if _is_list(kind):
        return f"list of {type_name(arguments[0])}" if arguments else "list"
    if _is_table(kind) and not dataclasses.is_dataclass(kind):
        return f"table of {type_name(arguments[1])}" if arguments else "table"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    return simple.get(kind) or str(getattr(kind, "__name__", kind))


def _expect(kind: Any) -> _ExpectationError:
    return _ExpectationError(f"expected {type_name(kind)}")


def _typed_bool(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _expect(bool)
    return value


def _typed_int(value: Any, _: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _expect(int)
    return int(value)


def _typed_float(value: Any, _: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _expect(float)
    return float(value)


def _typed_str(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _expect(str)
    return value


def _path(value: Any, _: Any) -> Path:
    if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
        raise _expect(Path)
    return Path(value).expanduser()


def _duration(value: Any, _: Any) -> Duration:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value >= 0:
            return Duration(float(value))
        if value < 0:
            raise _ExpectationError(f"expected {type_name(Duration)}, and not negative")
    raise _expect(Duration)  # not a number is neither


def _byte_size(value: Any, _: Any) -> ByteSize:
    if isinstance(value, str):
        return parse_bytes(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return ByteSize(value)
    raise _expect(ByteSize)


def _enum(value: Any, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        same = value == member.value and type(value) is type(member.value)
        if value is member or same or str(member.value) == value:
            return member
        if isinstance(value, str) and value.lower() == member.name.lower():
            return member
    raise _expect(kind)


def _literal(value: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if value == choice and type(value) is type(choice):
            return choice
    raise _expect(kind)


def _text_bool(value: Any, _: Any) -> bool:
    said = truth(value) if isinstance(value, str) else None
    return _typed_bool(value, bool) if said is None else said


def _text_int(value: Any, _: Any) -> int:
    if not isinstance(value, str):
        return _typed_int(value, int)
    try:
        return int(value)
    except ValueError:
        raise _expect(int) from None


def _text_float(value: Any, _: Any) -> float:
    if not isinstance(value, str):
        return _typed_float(value, float)
    try:
        return float(value)
    except ValueError:
        raise _expect(float) from None


def _text_literal(value: Any, kind: Any) -> Any:
    for choice in get_args(kind):
        if str(choice) == value:
            return choice
    return _literal(value, kind)


_COLLECTIONS: Mapping[Any, type] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
}
"""Types written as lists, and the constructor for each."""


def _is_list(kind: Any) -> bool:
    return (get_origin(kind) or kind) in _COLLECTIONS


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _is_table(kind: Any) -> bool:
    origin = get_origin(kind) or kind
    return dataclasses.is_dataclass(kind) or (
        isinstance(origin, type) and issubclass(origin, Mapping)
    )


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _listed(converter: cattrs.Converter, kind: Any) -> Callable[[Any, Any], Any]:
    """Parse a list: a list of values, or (from text) JSON or comma-separated values."""
    arguments, collection = get_args(kind), _COLLECTIONS[get_origin(kind) or kind]
    fixed = collection is tuple and arguments and Ellipsis not in arguments

    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, str) and converter is _TEXT:
            value = _json(value, kind) if value.lstrip().startswith("[") else _commas(value)
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise _expect(kind)
        if fixed and len(value) != len(arguments):
            raise _ExpectationError(f"expected {len(arguments)} values")
        elements = arguments if fixed else [(arguments or (Any,))[0]] * len(value)
        return collection(
            [
                converter.structure(item, element)
                for item, element in zip(value, elements, strict=True)
            ]
        )

    return structure


def _any_of(converter: cattrs.Converter, kind: Any) -> Callable[[Any, Any], Any]:
    """Parse a union: the first type that fits; empty text means none."""
    members = get_args(kind)
    optional = type(None) in members
    others = [member for member in members if member is not type(None)]

    def structure(value: Any, _: Any) -> Any:
        empty = isinstance(value, str) and converter is _TEXT and not value.strip()
        if optional and (value is None or empty):
            return None
        if len(others) == 1:
            return converter.structure(value, others[0])
        for member in others:
            try:
                return converter.structure(value, member)
            except CONVERSION_ERRORS:
                continue
        raise _expect(kind)

    return structure


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _json(text: str, kind: Any) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _ExpectationError(f"expected {type_name(kind)}, as JSON ({error.msg})") from None


def _table(converter: cattrs.Converter, kind: Any) -> Callable[[Any, Any], Any]:
    """Parse a table: a mapping, an object of the dataclass, or (from text) a JSON object."""

    def structure(value: Any, _: Any) -> Any:
        if isinstance(value, str) and converter is _TEXT:
            value = _json(value, kind)
        if dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind)):
            fields = dataclasses.fields(typing.cast(type, kind))
            value = {field.name: getattr(value, field.name) for field in fields if field.init}
        if not isinstance(value, Mapping):
            raise _expect(kind)
        if not dataclasses.is_dataclass(kind):
            element = (*get_args(kind), Any, Any)[1]
            return {str(k): converter.structure(item, element) for k, item in value.items()}
        return _strict_dataclass(converter, typing.cast(type, kind), value)

    return structure


def _strict_dataclass(converter: cattrs.Converter, kind: type, value: Mapping[str, Any]) -> Any:
    names = [field.name for field in dataclasses.fields(kind)]
    unknown = [key for key in value if key not in names]
    if unknown:
        problems = [f"unknown key {key!r}{did_you_mean(str(key), names)}" for key in unknown]
        raise _ExpectationError("; ".join(problems))
    make: Callable[[Any, Any], Any] = make_dict_structure_fn(kind, converter)
    return make(value, kind)


def _make_converter(text: bool) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    scalars: dict[Any, Callable[[Any, Any], Any]] = {
        bool: _text_bool if text else _typed_bool,
        int: _text_int if text else _typed_int,
        float: _text_float if text else _typed_float,
        str: _typed_str,
        Path: _path,
        Duration: _duration,
        ByteSize: _byte_size,
    }
    for kind, hook in scalars.items():
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(enum.Enum, _enum)  # cattrs below 26 asks this one first
    converter.register_structure_hook_func(_is_enum, _enum)
    converter.register_structure_hook_func(_is_literal, _text_literal if text else _literal)
    converter.register_structure_hook_factory(_is_list, lambda kind: _listed(converter, kind))
    converter.register_structure_hook_factory(_is_union, lambda kind: _any_of(converter, kind))
    converter.register_structure_hook_factory(_is_table, lambda kind: _table(converter, kind))
    return converter


_TYPED = _make_converter(text=False)
_TEXT = _make_converter(text=True)


def convert(value: Any, kind: Any, *, text: bool) -> Any:
    """Convert ``value`` to ``kind``.

    Args:
        value: The value; never changed.
        kind: A type, as in a dataclass field's annotation.
        text: The value is text from the environment, to be parsed as ``kind``.

    Raises:
        Exception: one of :data:`CONVERSION_ERRORS`.
    """
    return (_TEXT if text else _TYPED).structure(value, kind)


def reasons(error: BaseException) -> Iterator[str]:
    """Yield the reasons hidden in an error of :func:`convert`."""
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            where = [note.name for note in getattr(inner, "__notes__", ()) if hasattr(note, "name")]
            for reason in reasons(inner):
                yield f"{'.'.join(map(str, where))}: {reason}" if where else reason
    elif isinstance(error, KeyError):
        yield f"lacks {error.args[0]!r}"
    elif isinstance(error, StructureHandlerNotFoundError):
        yield f"its type, {type_name(error.type_)}, is not supported for parameters"
    elif isinstance(error, FormatError):
        yield f"expected {error.expected}"
    elif isinstance(error, RecursionError):
        yield "is nested too deeply"
    else:
        yield str(error)
