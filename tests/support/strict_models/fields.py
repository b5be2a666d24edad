"""Checks of single values, in the words of OpenAI's APIs."""

import re
from collections.abc import Collection
from typing import Any, NoReturn

from .body import image_type, split_data_url
from .refusal import JSON, Api, Refusal

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
FUNCTION_NAME = "^[a-zA-Z0-9_-]+$"
MAX_NAME = 64
MAX_TOOLS = 128
MAX_DESCRIPTION = 1024


def kind_of(value: object) -> str:
    """Return the name of a value's JSON type, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


class Fields:
    """Checks values, and refuses the wrong ones as OpenAI's APIs do.

    Args:
        api: the API that refuses.
    """

    def __init__(self, api: Api) -> None:
        self.api = api

    def refuse(
        self, message: str, param: str | None = None, code: str | None = "invalid_value"
    ) -> NoReturn:
        """Raise the refusal."""
        raise Refusal(self.api, message, param=param, code=code)

    def need(self, holder: JSON, key: str, path: str) -> Any:
        """Return the value of a required key."""
        at = f"{path}.{key}" if path else key
        if key not in holder:
            self.refuse(f"Missing required parameter: '{at}'.", at, "missing_required_parameter")
        return holder[key]

    def kind(self, value: object, expected: str, path: str) -> Any:
        """Return a value after a check of its kind: "a string", "an object" and so on."""
        if kind_of(value) != expected:
            self.refuse(
                f"Invalid type for '{path}': expected {expected}, but got {kind_of(value)} "
                "instead.",
                path,
                "invalid_type",
            )
        return value

    def choice(self, value: object, choices: Collection[str], path: str) -> str:
        """Return a string after a check that it is one of `choices`."""
        text: str = self.kind(value, "a string", path)
        if text not in choices:
            names = ", ".join(f"'{choice}'" for choice in choices)
            self.refuse(f"Invalid value: '{text}'. Supported values are: {names}.", path)
        return text

    def text(self, holder: JSON, key: str, path: str, *, least: int = 0, most: int = 0) -> str:
        """Return a required string.

        Args:
            holder: the object that contains the string.
            key: the key of the string in the object.
            path: the path of the holder.
            least: the minimum length.
            most: the maximum length. 0 = none.
        """
        at = f"{path}.{key}" if path else key
        value: str = self.kind(self.need(holder, key, path), "a string", at)
        if len(value) < least:
            self.refuse(
                f"Invalid '{at}': empty string. Expected a string with minimum length {least}, "
                "but got an empty string instead.",
                at,
                "empty_string",
            )
        if most and len(value) > most:
            self.refuse(
                f"Invalid '{at}': string too long. Expected a string with maximum length {most}, "
                f"but got a string with length {len(value)} instead.",
                at,
                "string_above_max_length",
            )
        return value

    def array(self, value: object, path: str, *, least: int = 1, most: int = 0) -> list[Any]:
        """Return an array after a check of its number of items. most: 0 = without limit."""
        items: list[Any] = self.kind(value, "an array", path)
        if len(items) < least:
            self.refuse(
                f"Invalid '{path}': empty array. Expected an array with minimum length {least}, "
                "but got an empty array instead.",
                path,
                "empty_array",
            )
        if most and len(items) > most:
            self.refuse(
                f"Invalid '{path}': array too long. Expected an array with maximum length {most}, "
                f"but got an array with length {len(items)} instead.",
                path,
                "array_above_max_length",
            )
        return items

    def pattern(self, value: str, pattern: str, path: str) -> None:
        """Check that a string matches a pattern."""
        if not re.search(pattern, value) or value.endswith("\n"):
            self.refuse(
                f"Invalid '{path}': string does not match pattern. Expected a string that matches "
                f"the pattern '{pattern}'.",
                path,
            )

    def keys(self, holder: JSON, known: Collection[str], path: str) -> None:
        """Check that an object has only known keys."""
        for key in holder:
            if key not in known:
                at = f"{path}.{key}" if path else key
                self.refuse(f"Unknown parameter: '{at}'.", at, "unknown_parameter")

    def function_name(self, holder: JSON, path: str) -> None:
        """Check the name of a function."""
        name = self.text(holder, "name", path, least=1, most=MAX_NAME)
        self.pattern(name, FUNCTION_NAME, f"{path}.name")

    def image_url(self, url: str, path: str) -> None:
        """Check the URL of an image."""
        if re.match("https?://", url):
            return
        parts = split_data_url(url)
        if not parts or not parts[0].startswith("image/"):
            self.refuse(
                f"Invalid '{path}'. Expected a base64-encoded data URL with an image MIME type "
                "(e.g. 'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got an invalid value.",
                path,
            )
        media_type, content = parts
        if media_type not in IMAGE_TYPES or image_type(content) not in (None, *IMAGE_TYPES):
            self.refuse(
                "You uploaded an unsupported image. Please make sure your image has of one the "
                "following formats: ['png', 'jpeg', 'gif', 'webp'].",
                path,
                "invalid_image_format",
            )

    def file_id(self, value: object, path: str) -> None:
        """Check the id of an uploaded file."""
        text: str = self.kind(value, "a string", path)
        if not re.match("file", text):
            self.refuse(
                f"Invalid '{path}': '{text}'. Expected an ID that begins with 'file'.", path
            )

    def function(self, function: JSON, path: str) -> None:
        """Check the declaration of a function."""
        self.function_name(function, path)
        if function.get("description") is not None:
            self.text(function, "description", path, most=MAX_DESCRIPTION)
        if function.get("parameters") is not None:
            self.schema(self.kind(function["parameters"], "an object", f"{path}.parameters"), path)

    def schema(self, schema: JSON, path: str) -> None:
        """Check the top level of the schema of a function's parameters."""
        if schema and schema.get("type") != "object":
            self.refuse(
                f"Invalid schema for function: schema must be a JSON Schema of 'type: \"object\"', "
                f"got 'type: \"{schema.get('type')}\"'.",
                f"{path}.parameters",
                "invalid_function_parameters",
            )
