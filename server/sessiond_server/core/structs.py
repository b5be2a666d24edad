"""Conversion between google.protobuf.Struct and dict, with checks.

protobuf's own json_format is slower and supports neither field paths nor limits.
"""

import math
from typing import Any

import orjson
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from sessiond_server.core.errors import invalid
from sessiond_server.core.limits import MAX_JSON_BYTES

# protobuf's parsers accept 100 levels of nesting. Each nested object takes three levels, and the
# messages that enclose a Struct take a few more.
MAX_DEPTH = 30  # levels of nested objects and arrays in config, metadata and data
# 2**53 is refused, because it may be a rounded 2**53 + 1, which has the same double.
MAX_INTEGER = 2**53 - 1  # absolute value of integers in config, metadata and data

# A Struct has at most six times the bytes of its JSON: a digit in a list takes 11 bytes, not 2.
MAX_STRUCT_BYTES = 8 * MAX_JSON_BYTES  # config or metadata of a request, as protobuf encodes it


def to_dict(struct: Struct, field: str, *, text_key: str = "") -> dict[str, Any]:
    """Return a Struct as a JSON object; whole numbers become int.

    Args:
        struct: the Struct.
        field: the path of the Struct in the request, for faults.
        text_key: a key with a text that does not count towards MAX_JSON_BYTES; "" for none.

    Raises:
        Fault: INVALID_FIELD for NaN, infinities, numbers beyond ±(2^53 - 1), NUL characters and
            unset values, and for more than MAX_DEPTH levels or MAX_JSON_BYTES.
    """
    text = struct.fields[text_key].string_value if text_key in struct.fields else ""
    if struct.ByteSize() - len(text.encode(errors="replace")) > MAX_STRUCT_BYTES:
        # Converting such a Struct would take seconds.
        raise invalid(field, f"takes far more than the limit of {MAX_JSON_BYTES} bytes as JSON")
    result = _object(struct, field, 1)
    counted = result
    if isinstance(result.get(text_key), str):
        counted = {key: value for key, value in result.items() if key != text_key}
    size = len(orjson.dumps(counted, option=orjson.OPT_PASSTHROUGH_SUBCLASS))
    if size > MAX_JSON_BYTES:
        raise invalid(field, f"takes {size} bytes as JSON; at most {MAX_JSON_BYTES} are allowed")
    return result


def _object(struct: Struct, path: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise invalid(path[:256], f"is nested deeper than {MAX_DEPTH} levels")
    result = {}
    for key, value in struct.fields.items():
        if "\0" in key:
            raise invalid(path, "has a key with a NUL character, which PostgreSQL cannot store")
        result[key] = _value(value, path, key, depth)
    return result


def _value(value: Value, path: str, key: str, depth: int) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            text = value.string_value
            if "\0" in text:
                raise invalid(
                    f"{path}.{key}", "contains a NUL character, which PostgreSQL cannot store"
                )
            return text
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise invalid(f"{path}.{key}", "is not a finite number, as JSON requires")
            # A double beyond MAX_INTEGER is a whole number that may have been rounded.
            if abs(number) > MAX_INTEGER:
                raise invalid(
                    f"{path}.{key}",
                    "is a number beyond ±(2^53 - 1), which a Struct cannot hold exactly; store it "
                    "as a string",
                )
            return int(number) if number.is_integer() else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _object(value.struct_value, f"{path}.{key}", depth + 1)
        case "list_value":
            if depth >= MAX_DEPTH:
                raise invalid(f"{path}.{key}"[:256], f"is nested deeper than {MAX_DEPTH} levels")
            return [
                _value(item, path, f"{key}[{i}]", depth + 1)
                for i, item in enumerate(value.list_value.values)
            ]
        case "null_value":
            return None
        case _:
            raise invalid(f"{path}.{key}", "has no value; set null_value for null")


def to_struct(value: dict[str, Any], struct: Struct) -> None:
    """Fill an empty Struct with a JSON object."""
    for key, item in value.items():
        _fill(struct.fields[key], item)


def _fill(target: Value, value: Any) -> None:
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        to_struct(value, target.struct_value)
    else:
        items: ListValue = target.list_value
        items.SetInParent()
        for item in value:
            _fill(items.values.add(), item)
