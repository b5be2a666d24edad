"""The settings as the log shows them, and as a worker process receives them."""

import json
from typing import TYPE_CHECKING

from sessiond_server.db import address

if TYPE_CHECKING:
    from sessiond_server.settings.model import ServerSettings


def redacted(settings: "ServerSettings") -> dict[str, object]:
    """Return the settings for the log, without the passwords in URLs of databases."""
    shown = settings.model_dump(mode="json") | {"providers": _providers_as_given(settings)}
    for name in ("database_url", "listen_database_url"):
        if url := shown[name]:
            shown[name] = address.redacted(url)
    return shown


def environment(settings: "ServerSettings", prefix: str) -> dict[str, str]:
    """Return the settings as environment variables whose names begin with the prefix."""
    dumped = settings.model_dump(mode="json", exclude_none=True) | {
        "providers": json.dumps(_providers_as_given(settings))
    }
    return {f"{prefix}{name.upper()}": str(value) for name, value in dumped.items()}


def _providers_as_given(settings: "ServerSettings") -> dict[str, object]:
    # Fields that were not given are left out, because they would override those of the built-in
    # providers.
    return {
        name: provider.model_dump(mode="json", exclude_unset=True)
        for name, provider in settings.providers.items()
    }
