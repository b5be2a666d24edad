"""Settings of providers, and the built-in providers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

ProviderType = Literal["openai", "openai-responses", "anthropic", "gemini", "echo"]
# Settings that openai-responses takes from openai, unless it has its own.
_OF_ENDPOINT = ("base_url", "api_key_env", "api_key_file", "silence_timeout_s", "retries")
# Settings that only one type of provider has.
_OF_TYPE: Mapping[str, ProviderType] = {
    "reasoning_key": "openai",
    "unknown_keys": "openai",
    "id_length": "openai",
    "files": "openai",
    "is_openai": "openai",
    "inline_system": "anthropic",
}


def _variable(name: str) -> str:
    # Only capitals are allowed, so that a key put here by mistake is rejected before it is logged.
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
    """A provider. Missing fields default to those of the built-in provider of the same name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ProviderType | None = Field(
        default=None,
        description="The protocol: openai (Chat Completions), openai-responses (Responses), "
        "anthropic (Messages), gemini (Gemini API) or echo.",
    )
    base_url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        default=None,
        description="URL of the API. Default: OPENAI_BASE_URL, ANTHROPIC_BASE_URL or "
        "GOOGLE_GEMINI_BASE_URL, or the public API if it is not set.",
    )
    api_key_env: Annotated[str, AfterValidator(_variable)] | None = Field(
        default=None,
        description="The environment variable that holds the key. Default: OPENAI_API_KEY, "
        "ANTHROPIC_API_KEY, or GEMINI_API_KEY or GOOGLE_API_KEY; none if base_url is set. "
        "Empty = none.",
    )
    api_key_file: Path | None = Field(
        default=None,
        description="A file that holds the key, instead of a variable. It is read again at SIGHUP.",
    )
    models: tuple[str, ...] = Field(
        default=(),
        description="Patterns for the names of its models, with * and ?. Case-sensitive.",
    )
    silence_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="Seconds without data from the provider after which a call fails.",
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Maximum number of further attempts after a failed one, as long as no text was "
        "streamed.",
    )
    reasoning_key: Literal["", "reasoning_content", "reasoning"] = Field(
        default="",
        description="openai only: the key of a message under which the server expects the "
        "reasoning of earlier answers, such as reasoning_content for DeepSeek. Empty = reasoning "
        "is not sent.",
    )
    unknown_keys: Literal["cut", "keep"] = Field(
        default="cut",
        description="openai only: what happens to keys of messages that OpenAI does not document. "
        "cut = they are left out; keep = they are sent.",
    )
    id_length: int = Field(
        default=40,
        ge=9,
        le=256,
        description="openai only: maximum length of the ids of tool calls. 9 = exactly 9 letters "
        "and digits, as Mistral requires.",
    )
    files: bool = Field(
        default=True, description="openai only: whether the server accepts images and other files."
    )
    is_openai: bool | None = Field(
        default=None,
        description="openai only: whether the server accepts all that OpenAI's server accepts, "
        "such as the role developer. Default: whether its URL is one of OpenAI's or Azure's.",
    )
    inline_system: bool = Field(
        default=False,
        description="anthropic only: whether the model accepts system messages between other "
        "messages.",
    )


BUILT_IN = {
    # Listed before openai, whose patterns match these models too.
    "openai-responses": ProviderSettings(
        type="openai-responses",
        api_key_env="OPENAI_API_KEY",
        models=(
            "o1-pro*",
            "o3-pro*",
            "gpt-5-pro*",
            "gpt-5.*-pro*",
            "gpt-*-codex*",
            "codex-mini*",
            "o?-*deep-research*",
            "computer-use-*",
        ),
    ),
    "openai": ProviderSettings(
        type="openai",
        api_key_env="OPENAI_API_KEY",
        models=("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*"),
    ),
    "anthropic": ProviderSettings(
        type="anthropic", api_key_env="ANTHROPIC_API_KEY", models=("claude-*",)
    ),
    "gemini": ProviderSettings(type="gemini", api_key_env="GEMINI_API_KEY", models=("gemini-*",)),
    "echo": ProviderSettings(type="echo", models=("echo", "echo-*")),
}


def merge_built_in(own: Mapping[str, ProviderSettings]) -> dict[str, ProviderSettings]:
    """Add the built-in providers to the operator's own.

    Returns:
        Providers by name, in the order in which their patterns are tried: the operator's own first.
        If the operator's own openai has no patterns, openai-responses comes before it.

    Raises:
        ValueError: if a provider has no type, or has a setting that its type does not have.
    """
    providers: dict[str, ProviderSettings] = {}
    for name, override in own.items():
        given = {field: getattr(override, field) for field in override.model_fields_set}
        merged = BUILT_IN.get(name, ProviderSettings()).model_copy(update=given)
        if merged.type is None:
            types = ", ".join(get_args(ProviderType))
            raise ValueError(f"{name} has no type; set it to one of {types}")
        for field in given:
            required = _OF_TYPE.get(field, merged.type)
            if required != merged.type:
                raise ValueError(
                    f"{name} has {field}, which only the type {required} has; {name} has the type "
                    f"{merged.type}"
                )
        if name == "openai" and "models" not in given:
            shared = {field: given[field] for field in given if field in _OF_ENDPOINT}
            responses = BUILT_IN["openai-responses"].model_copy(update=shared)
            providers.setdefault("openai-responses", responses)
        providers[name] = merged
    return providers | {
        name: settings for name, settings in BUILT_IN.items() if name not in providers
    }
