"""The filter of the session list: from the address to a request, and back to the form."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sessiond_console.site import FormError, text

# Fields of the form, which are also the query parameters of the page.
FIELDS = (
    "id",
    "user",
    "status",
    "model",
    "meta",
    "config",
    "created_from",
    "created_before",
    "active_from",
    "active_before",
)
TIMES = ("created_from", "created_before", "active_from", "active_before")
STATUSES = ("active", "destroyed")
ORDERS = {
    "active_desc": "last active",
    "active_asc": "longest inactive",
    "created_desc": "newest",
    "created_asc": "oldest",
    "id_asc": "id",
}
"""Orders of the server."""
RANKS = {
    "message_count": "most messages",
    "token_count": "most tokens",
    "content_bytes": "largest",
}
"""Orders by which the console itself sorts the sessions that meet the filter."""
_OTHER_NAMES = {"state": "status", "from": "active_from", "before": "active_before"}


@dataclass(frozen=True, slots=True)
class Filter:
    """The conditions on the sessions to list, from the query of the page's address."""

    fields: dict[str, str]
    """The form's fields that are set, by name."""
    order: str = "active_desc"

    @property
    def is_set(self) -> bool:
        """Whether there is any condition."""
        return bool(self.fields)

    @property
    def has_rare_fields(self) -> bool:
        """Whether a field is set that the form hides at first."""
        return any(name in self.fields for name in (*TIMES, "config"))

    def conditions(self) -> dict[str, Any]:
        """Return the conditions as keywords of `list_sessions`.

        Raises:
            FormError: if a value is not what its field needs.
        """
        found: dict[str, Any] = {}
        for name, value in self.fields.items():
            if name in TIMES:
                found[name] = time_of(name, value)
            elif name in ("meta", "config"):
                key = "metadata_contains" if name == "meta" else "config_contains"
                found[key] = object_of(name, value)
            elif name == "status":
                if value not in STATUSES:
                    raise FormError("status", f"must be one of {', '.join(STATUSES)}")
                found[name] = value
            else:
                found["session_id_prefix" if name == "id" else name] = value
        return found

    def query(self, **changes: str | None) -> dict[str, str | None]:
        """Return this filter as query parameters of the page, with some of them changed."""
        order = None if self.order == "active_desc" else self.order
        return {**self.fields, "order": order, **changes}


def filter_of(query: Mapping[str, Any]) -> Filter:
    """Return the filter that an address or a form has.

    Raises:
        FormError: if there is no such order.
    """
    fields = {name: value for name in FIELDS if (value := text(query, name).strip())}
    for other, name in _OTHER_NAMES.items():
        if value := text(query, other).strip():
            fields.setdefault(name, value)
    order = text(query, "order") or "active_desc"
    if order not in ORDERS and order not in RANKS:
        raise FormError("order", f"must be one of {', '.join([*ORDERS, *RANKS])}")
    return Filter(fields, order)


def time_of(name: str, value: str) -> datetime:
    """Return the time in a field: a word, or ISO 8601, in UTC unless it has another time zone.

    Args:
        name: the field.
        value: "2026-11-27", "2026-11-27T08:30", "today", "yesterday", "tomorrow" or "7d" (ago).

    Raises:
        FormError: if the value has none of these forms.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    words = {"today": 0, "yesterday": -1, "tomorrow": 1}
    try:
        if value in words:
            return today + timedelta(days=words[value])
        if value[-1:] in ("d", "h", "m") and value[:-1].isdigit():
            units = {"d": "days", "h": "hours", "m": "minutes"}
            return datetime.now(UTC) - timedelta(**{units[value[-1]]: int(value[:-1])})
        if len(value) == len("2026-11-27"):
            found = date.fromisoformat(value)
            return datetime(found.year, found.month, found.day, tzinfo=UTC)
        parsed = datetime.fromisoformat(value)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise FormError(
            name,
            f"is {value!r:.60}; write a time in UTC such as 2026-11-27 or 2026-11-27T08:30, "
            "today, yesterday, or 7d for seven days ago",
        ) from None


def object_of(name: str, value: str) -> dict[str, Any]:
    """Return the JSON object of a field; key=value is short for {"key": "value"}.

    Raises:
        FormError: if the value is neither a JSON object nor key=value.
    """
    if not value.lstrip().startswith("{") and "=" in value:
        key, _, rest = value.partition("=")
        return {key.strip(): rest.strip()}
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FormError(name, 'must be a JSON object such as {"plan": "pro"}, or plan=pro')
    return found
