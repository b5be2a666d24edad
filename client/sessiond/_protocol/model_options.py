"""Model options: dicts for callers, JSON text on the wire, which keeps the order of keys."""

import json
from collections.abc import Mapping
from typing import Any

from sessiond._protocol.json_text import encode_or_refuse
from sessiond.errors import invalid_field

KEY = "model_options"
"""The key of a session's config that holds the model options."""


def text_of(options: object, field: str) -> str:
    """Return model options as JSON text.

    Raises:
        InvalidField: if the options are not a dict, or contain a value that JSON cannot represent.
    """
    if not isinstance(options, Mapping):
        raise invalid_field(field, f"must be a dict, not {type(options).__name__}")
    return encode_or_refuse(options, field).decode()


def with_text(config: object, field: str) -> Any:
    """Return a config with its model options as text. Other values are returned unchanged."""
    if isinstance(config, Mapping) and isinstance(options := config.get(KEY), Mapping):
        return {**config, KEY: text_of(options, f"{field}.{KEY}")}
    return config


def with_dict(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config received from the server, with its model options as a dict."""
    if isinstance(text := config.get(KEY), str):
        try:
            options = json.loads(text)
        except (ValueError, RecursionError):
            return config
        if isinstance(options, dict):
            return {**config, KEY: options}
    return config


def check_contained(config: object, field: str) -> None:
    """Refuse a condition on model options, because the server cannot search them.

    Raises:
        InvalidField: if there is such a condition.
    """
    if isinstance(config, Mapping) and KEY in config:
        raise invalid_field(
            f"{field}.{KEY}",
            "is stored as text, which the server cannot search; filter by another key, or by "
            "metadata",
        )
