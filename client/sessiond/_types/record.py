"""Base classes of results: attributes that can also be read as keys."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from google.protobuf.message import Message as ProtoMessage

from sessiond._protocol.times import iso

_Proto = TypeVar("_Proto", bound=ProtoMessage)


class Record(Mapping[str, Any]):
    """A read-only result whose attributes can also be read as the items of a Mapping.

    `record["created_at"]` is the attribute's value. `record["createdAt"]`, the JSON spelling, is
    the value's JSON form: times are ISO 8601 strings, durations are seconds. Iteration yields the
    names.
    """

    __slots__ = ()

    _fields: ClassVar[tuple[str, ...]] = ()
    _by_key: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._by_key = {_camel(field): field for field in cls._fields}

    def __getitem__(self, key: str) -> Any:
        if key in self._fields:
            return getattr(self, key)
        return _plain(getattr(self, self._by_key[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dict that json.dumps accepts."""
        return {field: _plain(getattr(self, field)) for field in self._fields}


class ProtoRecord(Record, Generic[_Proto]):
    """A record that reads the fields of a protobuf message on access."""

    __slots__ = ("_pb",)

    _identity: ClassVar[tuple[str, ...]] = ()
    """The fields that repr() shows and hash() uses."""

    def __init__(self, pb: _Proto) -> None:
        self._pb = pb

    def __eq__(self, other: object) -> bool:
        return self._pb == other._pb if isinstance(other, ProtoRecord) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, field) for field in self._identity))

    def __repr__(self) -> str:
        shown = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._identity)
        return f"{type(self).__name__}({shown})"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Record):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    # Return a copy, even of a subclass of dict, so that changes to it do not affect the record.
    return dict(value) if isinstance(value, dict) else value
