"""How values are shown: times, sizes and numbers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from markupsafe import Markup

NOTES = {
    "saved": "Saved.",
    "deleted": "Deleted.",
    "picked-delete": "The picked sessions are deleted.",
    "picked-destroy": "The picked sessions are closed to appends. They can be resumed.",
    "picked-resume": "The picked sessions are active again.",
    "destroyed": "The session is closed to appends. It can be resumed.",
    "rewound": "The session is rewound.",
    "resumed": "The session is active again.",
    "copied": "This is the copy.",
    "sent": "The prompt is sent.",
    "aborted": "The turn is aborted.",
    "not-running": "No turn was running.",
    "marked": "The bookmark is set.",
    "moved": "Moved.",
    "created": "Created.",
    "revoked": "The key is revoked. Servers refuse it within seconds.",
    "requeued": "Requeued.",
    "signed-out": "Signed out.",
}


def number(value: int | None) -> str:
    """Return a number with thin spaces between groups of three digits."""
    return "–" if value is None else f"{value:,}".replace(",", "\u202f")


def size(value: int) -> str:
    """Return a number of bytes, rounded, with its unit."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    digits = 0 if unit == "B" or amount >= 100 else 1
    return f"{amount:.{digits}f}\u202f{unit}"


def time(value: datetime | None) -> Markup:
    """Return a <time> element in UTC, to the second, with the exact time as its title."""
    if value is None:
        return Markup("–")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        value.isoformat(), f"{value:%Y-%m-%d %H:%M:%S.%f}", f"{value:%Y-%m-%d %H:%M:%S}"
    )


def clock(value: datetime | None) -> Markup:
    """Return a <time> element with the time of day only; the date is in its title."""
    if value is None:
        return Markup("–")
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        value.isoformat(), f"{value:%Y-%m-%d %H:%M:%S.%f}", f"{value:%H:%M:%S}"
    )


def duration(value: timedelta | None) -> str:
    """Return a duration in its one or two largest units."""
    if value is None:
        return "–"
    seconds = value.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f}\u202fms"
    if seconds < 60:
        return f"{seconds:.1f}\u202fs"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}\u202fd {hours}\u202fh"
    return f"{hours}\u202fh {minutes}\u202fmin" if hours else f"{minutes}\u202fmin {rest}\u202fs"


def age(value: datetime | None) -> Markup:
    """Return how long ago a time was, with the time as the title."""
    if value is None:
        return Markup("–")
    passed = datetime.now(UTC) - value
    words = duration(abs(passed)) if abs(passed) >= timedelta(seconds=1) else "now"
    if words != "now":
        words = f"{words} ago" if passed > timedelta(0) else f"in {words}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        value.isoformat(), f"{value:%Y-%m-%d %H:%M:%S}", words
    )


def json_text(value: Any) -> str:
    """Return a value as indented JSON."""
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        return repr(value)


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "size": size,
    "time": time,
    "clock": clock,
    "duration": duration,
    "age": age,
    "json": json_text,
}
