"""What the answers have in common: attributes that can also be asked for by key."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from sessiond._protocol.times import iso


class Record(Mapping[str, Any]):
    """A read-only answer with attributes, which also reads like a dict.

    `record["created_at"]` is the attribute as it is; `record["createdAt"]`, the key's JSON spelling, is its JSON form: times are ISO 8601
    strings, durations are seconds.
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

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; `default` where there is no such key, or its value is None or an empty string."""
        try:
            value = self[key]
        except KeyError:
            return default
        return default if value is None or value == "" else value

    def to_dict(self) -> dict[str, Any]:
        """All of it as a dict that json.dumps takes."""
        return {field: _plain(getattr(self, field)) for field in self._fields}


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
    return value
