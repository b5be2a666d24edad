"""Checks of a body that are common to all model APIs: its size, its JSON and its files."""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from .refusal import JSON, Api, Refusal

# Levels of nested arrays and objects in a body. These limits are not documented. Gemini's frontend
# has the limit of protocol buffers. The others accept somewhat more levels than a stored message
# can have.
MAX_NESTING: dict[Api, int] = {
    "openai": 256,
    "groq": 256,
    "deepseek": 256,
    "responses": 256,
    "anthropic": 256,
    "gemini": 100,
}
MAX_BYTES: dict[Api, int] = {
    "openai": 20 * 1024**2,
    "groq": 20 * 1024**2,
    "deepseek": 20 * 1024**2,
    "responses": 50 * 1024**2,
    "anthropic": 32 * 1024**2,
    "gemini": 20 * 1024**2,
}

# A function that returns whether an API made a signature. Its arguments are the signature and the
# signed text: the text of an Anthropic thinking block, the id of a Responses item, otherwise "".
Signatures = Callable[[str, str], bool]

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def any_signature(signature: str, signed: str) -> bool:
    """Accept every signature that is not empty."""
    del signed
    return bool(signature)


def parse_body(api: Api, content: bytes, max_bytes: int | None = None) -> JSON:
    """Return the JSON object of a body.

    Args:
        api: the API that gets the body.
        content: the body.
        max_bytes: the largest accepted body. None = the API's own limit.

    Raises:
        Refusal: if the body is too large, or not a JSON object.
    """
    limit = MAX_BYTES[api] if max_bytes is None else max_bytes
    if len(content) > limit:
        raise too_large(api, len(content), limit)
    try:
        body = json.loads(content.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise bad_json(api, str(error)) from None
    if not isinstance(body, dict):
        raise bad_json(api, "the body is not an object")
    return body


def check_json(api: Api, body: object) -> None:
    """Check that a body can be encoded as strict JSON.

    Args:
        api: the API that gets the body.
        body: the body, parsed.

    Raises:
        Refusal: if the body has a lone surrogate, a number or value that JSON does not allow, or
            too many levels.
    """
    limit = MAX_NESTING[api]
    level: list[object] = [body]
    depth = 0
    while level:
        depth += any(isinstance(value, dict | list) for value in level)
        if depth > limit:
            raise bad_json(api, f"nesting too deep: more than {limit} levels")
        for value in level:
            _check_scalar(api, value)
        level = [child for value in level for child in _children(value)]


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _check_scalar(api: Api, value: object) -> None:
    match value:
        case str():
            if _SURROGATE.search(value):
                raise bad_json(api, "no low surrogate in string")
        case float():
            if not math.isfinite(value):
                raise bad_json(api, f"unexpected character: {value}")
        case None | bool() | int() | dict() | list():
            pass
        case _:
            raise bad_json(api, f"{type(value).__name__} is not JSON")


def _no_constant(name: str) -> Any:
    raise ValueError(f"unexpected character: {name}")


def too_large(api: Api, size: int, limit: int) -> Refusal:
    """Return the refusal of a body above the API's limit."""
    match api:
        case "anthropic":
            message = "Request exceeds the maximum allowed number of bytes."
        case "gemini":
            message = f"Request payload size exceeds the limit: {limit} bytes."
        case "groq":
            message = "Request Entity Too Large"
        case _:
            message = f"Maximum content size limit ({limit}) exceeded ({size} bytes read)"
    return Refusal(api, message, status=400 if api == "gemini" else 413)


def bad_json(api: Api, reason: str) -> Refusal:
    """Return the refusal of a body that is not valid JSON for the API."""
    match api:
        case "anthropic":
            message = f"The request body is not valid JSON: {reason}"
        case "gemini":
            message = f"Invalid JSON payload received. {reason}"
        case "deepseek":
            message = f"Failed to parse the request body as JSON: {reason}"
        case "groq":
            message = f"could not parse the request body: {reason}"
        case _:
            message = (
                "We could not parse the JSON body of your request. (HINT: This likely means you "
                "aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, "
                f"but what was sent was not valid JSON: {reason})"
            )
    return Refusal(api, message)


def decode_base64(data: object) -> bytes | None:
    """Return the bytes of strict base64. None if the data is not base64, or empty."""
    if not isinstance(data, str) or not data:
        return None
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        return None


def split_data_url(url: str) -> tuple[str, bytes] | None:
    """Return the media type and the bytes of a base64 data URL. None for any other string."""
    match = re.fullmatch(r"data:([^;,]+);base64,(.*)", url, re.DOTALL)
    content = decode_base64(match[2]) if match else None
    return (match[1], content) if match and content is not None else None


def image_type(content: bytes) -> str | None:
    """Return the media type that the first bytes of an image show. None if they show none."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)
