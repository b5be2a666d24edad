"""Conversion between dict and google.protobuf.Struct.

protobuf's json_format would silently change integers that a double cannot hold, and its errors have
no field paths.
"""

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value

from sessiond.errors import invalid_field

MAX_INTEGER = 2**53 - 1
# A nested object uses three of the 100 levels that protobuf's parsers allow, and the messages
# around it use some as well.
MAX_DEPTH = 30


def fill_struct(target: Struct, value: Mapping[str, Any], field: str) -> None:
    """Write a JSON object into an empty Struct.

    Args:
        target: the Struct.
        value: the object.
        field: path of the field, for the error.

    Raises:
        InvalidField: the object contains a value that JSON or a Struct cannot represent: another
            type, NaN or infinity, an integer beyond ±(2^53 - 1), a key that is not a string, or
            more than 30 levels.
    """
    if not isinstance(value, Mapping):
        raise invalid_field(field, f"must be a dict, not {type(value).__name__}")
    _fill_object(target, value, field, 1)


def from_struct(struct: Struct) -> dict[str, Any]:
    """Return a Struct as a dict; whole numbers up to ±(2^53 - 1) become int."""
    return {key: _from_value(value) for key, value in struct.fields.items()}


def _fill_object(target: Struct, value: Mapping[str, Any], path: str, depth: int) -> None:
    for key, item in value.items():
        if not isinstance(key, str):
            raise invalid_field(path, f"has a key that is not a string: {key!r}")
        try:
            slot = target.fields[key]
        except UnicodeError:
            raise invalid_field(path, f"has a key that is not valid Unicode: {key!r}") from None
        _fill_value(slot, item, f"{path}.{key}", depth)


def _fill_value(target: Value, value: Any, path: str, depth: int) -> None:
    match value:
        case None:
            target.null_value = NULL_VALUE
        case bool():
            target.bool_value = value
        case int():
            if abs(value) > MAX_INTEGER:
                raise invalid_field(
                    path,
                    "is an integer beyond ±(2^53 - 1), which may lose digits; send it as a string",
                )
            target.number_value = value
        case float():
            if not math.isfinite(value):
                raise invalid_field(path, f"is {value}, which JSON cannot represent")
            target.number_value = value
        case str():
            try:
                target.string_value = value
            except UnicodeError:
                raise invalid_field(
                    path, "is not valid Unicode: it holds a lone surrogate"
                ) from None
        case Mapping() | list() | tuple() if depth >= MAX_DEPTH:
            raise invalid_field(path, f"is nested deeper than {MAX_DEPTH} levels")
        case Mapping():
            # An empty object would otherwise leave the value without a kind.
            target.struct_value.SetInParent()
            _fill_object(target.struct_value, value, path, depth + 1)
        case list() | tuple():
            target.list_value.SetInParent()
            for i, item in enumerate(value):
                _fill_value(target.list_value.values.add(), item, f"{path}[{i}]", depth + 1)
        case _:
            raise invalid_field(
                path, f"is of type {type(value).__name__}, which JSON does not have"
            )


def _from_value(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [_from_value(item) for item in value.list_value.values]
        case _:
            return None
