"""Writes exports: as JSON Lines, one JSON document, or a dict."""

import json
import re
from typing import Any

from sessiond._export.records import LISTS, ExportRecord

_encode_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
# Lone surrogates, which UTF-8 cannot encode, and characters that some programs treat as line ends.
_ESCAPED = re.compile("[\ud800-\udfff\u2028\u2029\x85]")


def _encode(value: object) -> str:
    text = _encode_text(value)
    if text.isascii():
        return text
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def line(record: ExportRecord) -> str:
    """Return a record as a line of JSON, with its line end."""
    kind, value = record
    return _encode({"kind": kind, **value}) + "\n"


class Collection:
    """Builds the dict of `export()` record by record."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._lists: dict[str, list[dict[str, Any]]] = {name: [] for name in LISTS.values()}
        # The base64 of each asset, in pieces.
        self._data: list[list[str]] = []

    def take(self, record: ExportRecord) -> None:
        kind, value = record
        if kind == "export":
            self._head = value
        elif kind == "asset":
            if not value["offset"]:
                self._lists["assets"].append(
                    {name: value[name] for name in ("asset_id", "media_type", "size")}
                )
                self._data.append([])
            self._data[-1].append(value["data"])
        elif kind != "end":
            self._lists[LISTS[kind]].append(value)

    def result(self) -> dict[str, Any]:
        assets = [
            {**asset, "data": "".join(data)}
            for asset, data in zip(self._lists["assets"], self._data, strict=True)
        ]
        return {**self._head, **self._lists, "assets": assets}


class Document:
    """Writes one JSON document in the form of `export()`, record by record.

    Asset records must come after all others.
    """

    def __init__(self) -> None:
        self._open: str | None = None
        self._count = 0
        # Number of base64 characters of the current asset that are still missing.
        self._data_left = 0

    def text(self, record: ExportRecord) -> str:
        """Return the text that a record adds."""
        kind, value = record
        if kind == "export":
            return _encode(value)[:-1]
        if kind == "end":
            return "".join(self._begin(name) for name in self._rest()) + "]}\n"
        if kind == "asset" and value["offset"]:
            return self._data(value["data"])
        before = "".join(self._begin(name) for name in self._rest(until=LISTS[kind]))
        comma = "," if self._count else ""
        self._count += 1
        if kind != "asset":
            return f"{before}{comma}\n{_encode(value)}"
        head = _encode({name: value[name] for name in ("asset_id", "media_type", "size")})
        self._data_left = -(-value["size"] // 3) * 4
        return f'{before}{comma}\n{head[:-1]},"data":"{self._data(value["data"])}'

    def _data(self, data: str) -> str:
        self._data_left -= len(data)
        return data if self._data_left else data + '"}'

    def _rest(self, until: str = "assets") -> list[str]:
        """Return the names of the lists that follow the current one, up to `until`."""
        names = list(LISTS.values())
        return names[names.index(self._open) + 1 if self._open else 0 : names.index(until) + 1]

    def _begin(self, name: str) -> str:
        before = "]," if self._open else ","
        self._open, self._count = name, 0
        return f'{before}\n"{name}":['
