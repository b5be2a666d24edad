"""Shapes of JSON values that an API accepts, and the fitting of stored values to them.

A shape is a function that returns a value in the form that the API accepts: the same value if it
fits, or a copy without the parts that do not. It raises Misfit if nothing acceptable is left.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Note: TypeAlias = Callable[[str], None]
"""Receives the path of each part that is left out."""
Shape: TypeAlias = Callable[[Any, str, Note], Any]
"""Returns a value without the parts that the API does not accept, given the value and its path.

Raises Misfit if the value does not have the required shape.
"""


class Misfit(Exception):
    """A value does not have the shape that the API requires.

    Attributes:
        path: the path of the value.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


def of_type(*kinds: type) -> Shape:
    """Return the shape of a value that has one of the types. A boolean is not an integer."""

    def fit(value: Any, path: str, note: Note) -> Any:
        del note
        if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
            return value
        raise Misfit(path)

    return fit


STRING = of_type(str)
INTEGER = of_type(int)
BOOLEAN = of_type(bool)
OBJECT = of_type(dict)


def anything(value: Any, path: str, note: Note) -> Any:
    """Accept every value."""
    del path, note
    return value


def filled(value: Any, path: str, note: Note) -> Any:
    """Accept a string that is not blank."""
    if STRING(value, path, note).strip():
        return value
    raise Misfit(path)


def one_of(*choices: str) -> Shape:
    """Return the shape of a value that is one of the strings."""

    def fit(value: Any, path: str, note: Note) -> Any:
        del note
        if isinstance(value, str) and value in choices:
            return value
        raise Misfit(path)

    return fit


def nullable(shape: Shape) -> Shape:
    """Return the shape of a value that may also be null."""

    def fit(value: Any, path: str, note: Note) -> Any:
        return None if value is None else shape(value, path, note)

    return fit


def either(*shapes: Shape) -> Shape:
    """Return the shape of a value that fits one of the shapes. The first that fits is used."""

    def fit(value: Any, path: str, note: Note) -> Any:
        for shape in shapes:
            noted: list[str] = []
            try:
                fitted = shape(value, path, noted.append)
            except Misfit:
                continue
            for inner in noted:
                note(inner)
            return fitted
        raise Misfit(path)

    return fit


def list_of(shape: Shape, *, may_be_empty: bool = True, omits: bool = False) -> Shape:
    """Return the shape of a list.

    Args:
        shape: the shape of each item.
        may_be_empty: whether the list may have no items.
        omits: leave out the items that do not fit.
    """

    def fit(value: Any, path: str, note: Note) -> Any:
        if not isinstance(value, list):
            raise Misfit(path)
        kept: list[Any] = []
        for item in value:
            try:
                kept.append(shape(item, path, note))
            except Misfit as e:
                if not omits:
                    raise
                note(e.path)
        if not kept and (value or not may_be_empty):
            raise Misfit(path)
        return kept

    return fit


def record(
    kind: str, required: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None
) -> Shape:
    """Return the shape of an object. Other keys, and optional values that do not fit, are left out.

    Args:
        kind: the value of its key "type". "" = it has no such key.
        required: the keys that it must have.
        optional: the keys that it may have.
    """
    shapes = {**required, **(optional or {})}
    if kind:
        shapes["type"] = one_of(kind)

    def fit(value: Any, path: str, note: Note) -> Any:
        if not isinstance(value, dict):
            raise Misfit(path)
        kept: dict[str, Any] = {}
        for key, item in value.items():
            inner = f"{path}.{key}"
            shape = shapes.get(key)
            if shape is None:
                note(inner)
                continue
            try:
                kept[key] = shape(item, inner, note)
            except Misfit as e:
                if key in required or key == "type":
                    raise
                note(e.path)
        for key in (*required, *(["type"] if kind else [])):
            if key not in kept:
                raise Misfit(f"{path}.{key}")
        return kept

    return fit
