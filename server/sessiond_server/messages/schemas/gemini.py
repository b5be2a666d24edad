"""Contents of the Gemini API, in the API's spelling and in that of its Python SDK."""

import re
from typing import Any

from sessiond_server.messages.schemas.checks import (
    Check,
    SchemaError,
    all_fields,
    check_content,
    fields,
    items,
    string,
)

_FOREIGN_FIELDS = ("content", "tool_calls", "tool_call_id", "kind")
_FOREIGN_PART_FIELDS = ("type", "part_kind", "kind")


def both_spellings(**checks: Check) -> dict[str, Check]:
    """Return the checks under both spellings of the fields: camelCase and snake_case."""
    return {
        spelling: check
        for name, check in checks.items()
        for spelling in (name, re.sub("([A-Z])", lambda match: f"_{match[1].lower()}", name))
    }


_inline_data = all_fields(both_spellings(data=string, mimeType=string, displayName=string))
_file_data = all_fields(both_spellings(fileUri=string, mimeType=string, displayName=string))
_media = both_spellings(inlineData=_inline_data, fileData=_file_data)
# A part has one of these fields.
_contents = _media | both_spellings(
    text=string,
    functionCall=fields(id=string, name=string),
    functionResponse=fields(id=string, name=string, parts=items(all_fields(_media))),
    executableCode=fields(code=string),
    codeExecutionResult=fields(output=string),
)
_check_part_fields = all_fields(_contents | both_spellings(thoughtSignature=string))


def _check_part(value: Any) -> None:
    if isinstance(value, str):
        return
    _check_part_fields(value)
    first = ""
    for key, item in value.items():
        if key in _FOREIGN_PART_FIELDS and isinstance(item, str):
            raise SchemaError("is a field that only other formats have", f".{key}")
        if key in _contents and item is not None:
            if first:
                raise SchemaError(f"is a second content beside {first}; a part has one", f".{key}")
            first = key


_check_list = items(_check_part, "list of parts")


def _check_parts(value: Any) -> None:
    # A single part may replace a list of parts.
    if isinstance(value, dict):
        _check_part(value)
    else:
        _check_list(value)


def check(value: dict[str, Any]) -> None:
    """Check a content.

    Raises:
        SchemaError: if a reader could not read the content.
    """
    check_content(value, "parts", _check_parts, _FOREIGN_FIELDS)
