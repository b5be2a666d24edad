"""What the settings say of providers: those that are built in, and the operator's own."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ProviderType = Literal["openai", "anthropic", "echo"]


def _variable(name: str) -> str:
    # Capitals: so that a key which is written here by mistake is refused before it can be logged.
    if name and not re.fullmatch("[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "is no name of an environment variable in capitals; the key itself does not belong here"
        )
    return name


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is no URL; it looks like http://localhost:11434/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            "has more than scheme, host and path; the key belongs into the variable that api_key_env names"
        )
    return url


class ProviderSettings(BaseModel):
    """A provider. What is left out of one that has the name of a built-in one is as it is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ProviderType | None = Field(
        default=None,
        description="The protocol: openai (Chat Completions), anthropic (Messages) or echo.",
    )
    base_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None,
        description="Where it is. Default: OPENAI_BASE_URL or ANTHROPIC_BASE_URL, else the public one.",
    )
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = Field(
        default=None,
        description="The environment variable that holds the key. Default: OPENAI_API_KEY or ANTHROPIC_API_KEY, but none with a base_url. "
        "Empty = none.",
    )
    models: tuple[str, ...] = Field(
        default=(), description="Names of its models, * and ? stand for anything, and case counts."
    )
    silence_timeout_s: float = Field(
        default=300.0, gt=0, le=3600, description="Seconds for which it may send nothing."
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Attempts after the first one, while nothing was streamed.",
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


def completed(own: Mapping[str, ProviderSettings]) -> dict[str, ProviderSettings]:
    """All providers, in the order in which their patterns are tried: the operator's own, then the built-in ones.

    Raises: ValueError for one without a type.
    """
    providers = {}
    for name, given in own.items():
        given_fields = {field: getattr(given, field) for field in given.model_fields_set}
        providers[name] = BUILT_IN.get(name, ProviderSettings()).model_copy(update=given_fields)
        if providers[name].type is None:
            raise ValueError(f"{name} has no type: openai, anthropic or echo")
    return providers | {name: settings for name, settings in BUILT_IN.items() if name not in own}
