"""Options as plain data for a file, and back with every type confirmed."""

from __future__ import annotations

import dataclasses
import math
import os
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["from_plain", "to_plain"]


def to_plain(value: Any) -> Any:
    """Tables, lists, text and numbers, of a dataclass and what it holds; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return to_plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def from_plain(kind: Any, value: Any, field: str) -> Any:
    """A value of the annotation ``kind`` from what `to_plain` made of one.

    Raises
    ------
    ValueError
        The type is another or the value is out of its range; the message begins with the field.
    """
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, field)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _either(arguments, value, field)
    if origin is Literal:
        return _known(value in arguments, value, field, f"one of {arguments}")
    if origin in (list, tuple, Sequence):
        return _list(origin, arguments, value, field)
    if origin in (dict, Mapping):
        _known(isinstance(value, dict), value, field, "a table")
        return {key: from_plain(arguments[1], item, f"{field}.{key}") for key, item in value.items()}
    if kind is Any:
        return value
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return float(_known(number and math.isfinite(value), value, field, "a finite number"))
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return _known(fits, value, field, getattr(kind, "__name__", str(kind)))


def _known(fits: bool, value: Any, field: str, wanted: str) -> Any:
    if not fits:
        raise ValueError(f"{field} is {value!r:.80}, want {wanted}")
    return value


def _record(kind: Any, value: Any, field: str) -> Any:
    _known(isinstance(value, dict), value, field, "a table")
    hints = get_type_hints(kind)
    columns = {row.name: row for row in dataclasses.fields(kind)}
    for name in value:
        _known(name in columns, name, field, f"fields of {', '.join(columns)}")
    for name, row in columns.items():
        if row.default is row.default_factory is dataclasses.MISSING:
            _known(name in value, sorted(value), field, f"{name} in it")
    rows = {name: from_plain(hints[name], item, f"{field}.{name}") for name, item in value.items()}
    try:
        return kind(**rows)
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{field}: {problem}") from None


def _either(kinds: tuple[Any, ...], value: Any, field: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    tables = isinstance(value, dict)
    choices = [kind for kind in kinds if kind is not type(None) and get_origin(kind) is not os.PathLike]
    # of a table and a name, the one that the value looks like, so that the message is about it
    likely = [kind for kind in choices if dataclasses.is_dataclass(kind) == tables] or choices
    return from_plain(likely[0], value, field)


def _list(origin: Any, arguments: tuple[Any, ...], value: Any, field: str) -> Any:
    _known(isinstance(value, list), value, field, "a list")
    if origin is tuple and arguments[-1] is not ...:
        _known(len(value) == len(arguments), value, field, f"{len(arguments)} entries")
        return tuple(
            from_plain(kind, item, f"{field}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
        )
    items = [from_plain(arguments[0], item, f"{field}[{i}]") for i, item in enumerate(value)]
    return tuple(items) if origin is tuple else items
