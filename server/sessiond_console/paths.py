"""The addresses of pages. Ids may contain any character, so they are one encoded path segment."""

import re
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.convertors import Convertor, register_url_convertor

# Browsers remove the segments "." and "..", even percent-encoded. Such ids get a "~" in front.
_DOTS = re.compile(r"~*\.{1,2}")


class IdConvertor(Convertor[str]):
    """Decodes an id in a path. The path is still percent-encoded, so an id may contain "/"."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        decoded = unquote(value, errors="replace")
        return decoded[1:] if decoded.startswith("~") and _DOTS.fullmatch(decoded) else decoded

    def to_string(self, value: str) -> str:
        return segment(value)


def segment(value: str) -> str:
    """Return an id as a path segment."""
    return quote(f"~{value}" if _DOTS.fullmatch(value) else value, safe="", errors="replace")


def session_path(session_id: str, *rest: object, **query: Any) -> str:
    """Return the path of a page of a session, e.g. of "a/b" and "turns"."""
    return path("sessions", session_id, *rest, **query)


def asset_path(asset_id: str) -> str:
    """Return the path of an asset."""
    return path("assets", asset_id)


def path(*segments: object, **query: Any) -> str:
    """Return a path of encoded segments, with the parameters that are neither None nor empty."""
    given = [(key, value) for key, value in query.items() if value not in (None, "", False)]
    found = "/" + "/".join(segment(str(part)) for part in segments)
    return f"{found}?{urlencode(given)}" if given else found


register_url_convertor("id", IdConvertor())
