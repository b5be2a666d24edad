"""Options of models: dicts for callers; on the wire JSON text, which keeps the order of keys."""

import json
from collections.abc import Mapping
from typing import Any

from sessiond._protocol.json_text import encode_or_refuse
from sessiond.errors import invalid_field

KEY = "model_options"
"""The key of a session's config that holds options of models."""


def text_of(options: object, field: str) -> str:
    """Return options as JSON text.

    Raises:
        InvalidField: if they are no dict, or hold a value that JSON does not have.
    """
    if not isinstance(options, Mapping):
        raise invalid_field(field, f"must be a dict, not {type(options).__name__}")
    return encode_or_refuse(options, field).decode()


def with_text(config: object, field: str) -> Any:
    """Return a config whose options are text. Any other value is returned as it is."""
    if isinstance(config, Mapping) and isinstance(options := config.get(KEY), Mapping):
        return {**config, KEY: text_of(options, f"{field}.{KEY}")}
    return config


def with_dict(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config that was read, with its options as a dict."""
    if isinstance(text := config.get(KEY), str):
        try:
            options = json.loads(text)
        except (ValueError, RecursionError):
            return config
        if isinstance(options, dict):
            return {**config, KEY: options}
    return config


def check_contained(config: object, field: str) -> None:
    """Refuse a condition on options, which the server does not look into.

    Raises:
        InvalidField: if there is one.
    """
    if isinstance(config, Mapping) and KEY in config:
        raise invalid_field(
            f"{field}.{KEY}",
            "is text to the server, which cannot search it; filter by another key, or by metadata",
        )
