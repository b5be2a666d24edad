"""Settings of providers, and the built-in providers."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ProviderType = Literal["openai", "anthropic", "echo"]


def _variable(name: str) -> str:
    # Capitals only: a key that is put here by mistake is rejected before it can be logged.
    if name and not re.fullmatch("[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "must name an environment variable, in capitals; do not put the key itself here"
        )
    return name


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an HTTP URL such as http://localhost:11434/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "must consist of scheme, host and path; put the key in the variable that api_key_env "
            "names"
        )
    return url


class ProviderSettings(BaseModel):
    """A provider. Under the name of a built-in one, missing fields default to its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ProviderType | None = Field(
        default=None,
        description="The protocol: openai (Chat Completions), anthropic (Messages) or echo.",
    )
    base_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None,
        description="Its URL. Default: OPENAI_BASE_URL or ANTHROPIC_BASE_URL, else the public one.",
    )
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = Field(
        default=None,
        description="The environment variable that holds the key. Default: OPENAI_API_KEY or "
        "ANTHROPIC_API_KEY, but none with a base_url. Empty = none.",
    )
    models: tuple[str, ...] = Field(
        default=(), description="Patterns of its models' names, with * and ?. Case-sensitive."
    )
    silence_timeout_s: float = Field(
        default=300.0, gt=0, le=3600, description="Seconds for which it may send nothing."
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Attempts after the first, as long as nothing was streamed.",
    )


BUILT_IN = {
    "openai": ProviderSettings(
        type="openai",
        api_key_env="OPENAI_API_KEY",
        models=("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*"),
    ),
    "anthropic": ProviderSettings(
        type="anthropic", api_key_env="ANTHROPIC_API_KEY", models=("claude-*",)
    ),
    "echo": ProviderSettings(type="echo", models=("echo", "echo-*")),
}


def merge_built_in(own: Mapping[str, ProviderSettings]) -> dict[str, ProviderSettings]:
    """Add the built-in providers to the operator's own.

    Returns:
        Providers by name, in the order in which their patterns are tried: the operator's own first.

    Raises:
        ValueError: if a provider has no type.
    """
    providers = {}
    for name, override in own.items():
        own_fields = {field: getattr(override, field) for field in override.model_fields_set}
        providers[name] = BUILT_IN.get(name, ProviderSettings()).model_copy(update=own_fields)
        if providers[name].type is None:
            raise ValueError(f"{name} has no type; set it to openai, anthropic or echo")
    return providers | {name: settings for name, settings in BUILT_IN.items() if name not in own}
