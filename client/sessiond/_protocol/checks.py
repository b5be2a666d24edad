"""Checks of the caller's values. All raise InvalidField with the path of the field."""

import os
from collections.abc import Iterable, Mapping
from typing import TypeVar

from sessiond.errors import invalid_field

_Item = TypeVar("_Item")


def listed(values: Iterable[_Item], field: str) -> Iterable[_Item]:
    """Return values that must be a list or another iterable.

    Raises:
        InvalidField: if a single value was given instead of a list.
    """
    if isinstance(values, str):
        raise invalid_field(field, f'must be a list, e.g. ["{values}"]')
    if isinstance(values, bytes | Mapping) or not isinstance(values, Iterable):
        raise invalid_field(field, f"must be a list, not {type(values).__name__}")
    return values


def path_of(value: object, field: str) -> str:
    """Return the path of a file.

    Raises:
        InvalidField: if the value cannot be a path.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise invalid_field(field, f"must be a path, not {type(value).__name__}")
    try:
        is_valid = path and b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_valid = False
    if not is_valid:
        raise invalid_field(field, f"is {path!r}, which cannot be the path of a file")
    return path


def check_function(value: object, field: str) -> None:
    """Check that a value can be called.

    Raises:
        InvalidField: if the value cannot be called.
    """
    if not callable(value):
        raise invalid_field(field, f"must be a function, not {type(value).__name__}")


def check_number(value: object, field: str, *, least: float) -> None:
    """Check that a value is a number, and is not below `least`.

    Raises:
        InvalidField: if the value is no number, or is below `least`.
    """
    # NaN fails the comparison.
    if not isinstance(value, int | float) or not value >= least:
        raise invalid_field(field, f"is {value!r}; it must be a number of at least {least}")


def check_text(value: object, field: str) -> None:
    """Check that a value is a string that UTF-8 can represent.

    Raises:
        InvalidField: if the value is no such string.
    """
    if not isinstance(value, str):
        raise invalid_field(field, f"must be a string, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid_field(field, "has half of a surrogate pair") from None
