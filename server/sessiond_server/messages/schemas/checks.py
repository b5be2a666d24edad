"""Checks of JSON values, from which the schemas are built."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

Check: TypeAlias = Callable[[Any], None]
"""A function that raises SchemaError if a value has the wrong shape."""

_KINDS = {str: "a string", bool: "a boolean", dict: "an object", list: "a list", type(None): "null"}


class SchemaError(Exception):
    """A message has a value that its reader cannot read.

    Attributes:
        description: what is wrong with the value, as the continuation of "FIELD ...".
        path: the place of the value, such as ".content[1].type".
    """

    def __init__(self, description: str, path: str = "") -> None:
        super().__init__(description)
        self.description = description
        self.path = path


def wrong_type(value: Any, wanted: str) -> SchemaError:
    """Return the error for a value of the wrong type."""
    article = "an" if wanted[0] in "aeio" else "a"
    return SchemaError(f"must be {article} {wanted}, not {_KINDS.get(type(value), 'a number')}")


def string(value: Any) -> None:
    """Check a string."""
    if not isinstance(value, str):
        raise wrong_type(value, "string")


def fields(**checks: Check) -> Check:
    """Return the check of an object with these fields; null counts as a missing field."""
    return all_fields(checks)


def all_fields(checks: Mapping[str, Check]) -> Check:
    """Return the check of an object with these fields; null counts as a missing field."""
    find = checks.get

    def check(value: Any) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, "object")
        for key, item in value.items():
            if item is not None and (inner := find(key)) is not None:
                try:
                    inner(item)
                except SchemaError as e:
                    e.path = f".{key}{e.path}"
                    raise

    return check


def items(inner: Check, wanted: str = "list") -> Check:
    """Return the check of a list."""

    def check(value: Any) -> None:
        if not isinstance(value, list):
            raise wrong_type(value, wanted)
        for i, item in enumerate(value):
            try:
                inner(item)
            except SchemaError as e:
                e.path = f"[{i}]{e.path}"
                raise

    return check


def text_or(inner: Check) -> Check:
    """Return a check that accepts strings, and applies the inner check to all other values."""

    def check(value: Any) -> None:
        if not isinstance(value, str):
            inner(value)

    return check


def part(by_type: Mapping[str, Check], foreign: Collection[str]) -> Check:
    """Return the check of a part of content: a string, or an object with a type.

    Args:
        by_type: checks of the known types; unknown types are accepted.
        foreign: types that exist only in other formats.
    """

    def check(value: Any) -> None:
        if isinstance(value, str):
            return
        if not isinstance(value, dict):
            raise wrong_type(value, "object")
        kind = value.get("type")
        if not isinstance(kind, str):
            raise SchemaError("is not a string" if "type" in value else "is missing", ".type")
        if (inner := by_type.get(kind)) is not None:
            inner(value)
        elif kind in foreign:
            raise SchemaError(f"is {kind!r}, which only other formats have", ".type")

    return check


# The keys under which other formats have their content.
_OTHER_CONTENT = frozenset({"content", "parts", "blocks", "text", "message", "data", "value"})


def check_content(value: dict[str, Any], key: str, inner: Check, foreign: Collection[str]) -> None:
    """Check the content of a message; it may be missing or null.

    Args:
        value: the message.
        key: the key under which the message's format has the content.
        inner: checks the content.
        foreign: keys that exist only in other formats.
    """
    content = value.get(key)
    try:
        if content is not None:
            inner(content)
    except SchemaError as e:
        e.path = f".{key}{e.path}"
        raise
    others = foreign if content else _OTHER_CONTENT.difference((key,)).union(foreign)
    for other in value.keys() & others:
        if value[other]:
            raise SchemaError("is a field that only other formats have", f".{other}")
