"""The request types of the providers' SDKs: their keys, and a check of requests."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, get_args

from pydantic import ConfigDict, TypeAdapter
from pydantic_core import ErrorDetails, SchemaValidator, ValidationError
from typing_extensions import get_type_hints

from .refusal import JSON, Api

# Additional keys of servers that are compatible with OpenAI, in a message or in the body.
COMPATIBLE_KEYS: Mapping[Api, frozenset[str]] = {
    "deepseek": frozenset({"reasoning_content", "prefix", "thinking"}),
    "groq": frozenset({"reasoning_format", "include_reasoning"}),
}
# Keys of messages that OpenAI accepts although its SDK's types lack them, by role. The SDK sends
# `annotations` back with an answer, and OpenAI's own examples once had `name`.
UNTYPED_KEYS: Mapping[str, frozenset[str]] = {
    "assistant": frozenset({"annotations"}),
    "tool": frozenset({"name"}),
}
_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, strict=True)


def validate_against_sdk(api: Api, body: JSON) -> list[str]:
    """Compare a request with the types that the provider's SDK has for it.

    Args:
        api: the API that gets the request.
        body: the request. Gemini's is the body of its REST API.

    Returns:
        The differences, each with its path. Empty = the request has the SDK's type. An alternative
        of a union is part of the path, so one wrong value can give several lines.

    Raises:
        ImportError: if the provider's SDK is not installed.
    """
    if api == "gemini":
        return [line for key in body for line in _gemini_differences(key, body[key])]
    is_chat = api in ("openai", "groq", "deepseek")
    # An unknown key would hide every other difference within its union.
    value = _without(body, COMPATIBLE_KEYS.get(api, frozenset())) if is_chat else body
    return _differences(_validator(api), value)


@cache
def sdk_is_installed(api: Api) -> bool:
    """Return whether the SDK that validate_against_sdk needs can be imported."""
    try:
        validate_against_sdk(api, {"contents": []})
    except ImportError:
        return False
    return True


@cache
def request_keys(api: Literal["openai", "responses", "anthropic"]) -> frozenset[str]:
    """Return the keys that the SDK knows in a body."""
    return frozenset().union(*(get_type_hints(kind) for kind in get_args(_request_type(api))))


@cache
def message_keys() -> Mapping[str, frozenset[str]]:
    """Return the keys that OpenAI's SDK knows in a chat message, by role."""
    from openai.types.chat import ChatCompletionMessageParam

    return _keys_by("role", ChatCompletionMessageParam)


@cache
def item_keys() -> Mapping[str, frozenset[str]]:
    """Return the keys that OpenAI's SDK knows in an input item of Responses, by type."""
    from openai.types.responses import ResponseInputItemParam

    return _keys_by("type", ResponseInputItemParam)


@cache
def item_nulls() -> Mapping[str, frozenset[str]]:
    """Return the keys that may be null in an input item of Responses, by type."""
    from openai.types.responses import ResponseInputItemParam

    return _keys_by("type", ResponseInputItemParam, only_nulls=True)


@cache
def block_keys() -> Mapping[str, frozenset[str]]:
    """Return the keys that Anthropic's SDK knows in a content block, by type."""
    from anthropic.types import BrowserStateBlockParam, ContentBlockParam, ToolReferenceBlockParam

    return _keys_by("type", ContentBlockParam | ToolReferenceBlockParam | BrowserStateBlockParam)


def _keys_by(tag: str, union: Any, *, only_nulls: bool = False) -> dict[str, frozenset[str]]:
    keys: dict[str, frozenset[str]] = {}
    for kind in get_args(union):
        hints = get_type_hints(kind)
        named = {
            key for key, hint in hints.items() if not only_nulls or type(None) in get_args(hint)
        }
        for name in _literals(hints[tag]):
            keys[name] = keys.get(name, frozenset()) | named
    return keys


def _literals(hint: Any) -> list[str]:
    """Return the strings of a Literal type, which may be optional."""
    return [
        value
        for argument in get_args(hint)
        for value in ([argument] if isinstance(argument, str) else _literals(argument))
    ]


def _request_type(api: Literal["openai", "responses", "anthropic"]) -> Any:
    match api:
        case "openai":
            from openai.types.chat import completion_create_params as chat

            return chat.CompletionCreateParams
        case "responses":
            from openai.types.responses import response_create_params as responses

            return responses.ResponseCreateParams
        case "anthropic":
            from anthropic.types import message_create_params as messages

            return messages.MessageCreateParams


@cache
def _validator(api: Api) -> SchemaValidator:
    match api:
        case "responses" | "anthropic":
            return _strict_validator(_request_type(api))
        case _:
            return _strict_validator(_request_type("openai"))


def _strict_validator(kind: Any) -> SchemaValidator:
    """Return a validator that also checks fields of the type Iterable."""
    schema = TypeAdapter(kind, config=_STRICT).core_schema
    return SchemaValidator(_with_lists(schema))


def _with_lists(schema: Any) -> Any:
    """Return a schema that accepts only JSON, and checks all of it.

    A generator becomes a list, because pydantic checks a generator's items only when they are
    read. Only the SDK's answers are pydantic models. For a model, the schema accepts only an
    instance and no dict, because models ignore unknown keys.
    """
    if isinstance(schema, dict):
        if schema.get("type") == "generator":
            schema = {"type": "list", "items_schema": schema["items_schema"]}
        if schema.get("type") == "model":
            reference = {"ref": schema["ref"]} if "ref" in schema else {}
            schema = {"type": "is-instance", "cls": schema["cls"], **reference}
        return {key: _with_lists(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_with_lists(value) for value in schema]
    if isinstance(schema, tuple):
        return tuple(_with_lists(value) for value in schema)
    return schema


def _without(value: Any, keys: frozenset[str]) -> Any:
    """Return a body without `keys`, also in its messages, and without UNTYPED_KEYS."""
    messages = value.get("messages")
    plain = {key: entry for key, entry in value.items() if key not in keys}
    if isinstance(messages, list):
        plain["messages"] = [
            {
                key: entry
                for key, entry in message.items()
                if key not in keys | UNTYPED_KEYS.get(str(message.get("role")), frozenset())
            }
            if isinstance(message, dict)
            else message
            for message in messages
        ]
    return plain


@cache
def _gemini_validators() -> Mapping[str, Callable[[Any], object]]:
    from google.genai import types

    kinds: dict[str, Any] = {
        "contents": list[types.Content],
        "systemInstruction": types.Content,
        "tools": list[types.Tool],
        "toolConfig": types.ToolConfig,
        "generationConfig": types.GenerationConfig,
        "safetySettings": list[types.SafetySetting],
        "cachedContent": str,
        "labels": dict[str, str],
    }
    return {key: TypeAdapter(kind).validate_python for key, kind in kinds.items()}


def _gemini_differences(key: str, value: Any) -> list[str]:
    validate = _gemini_validators().get(key)
    if not validate:
        return [f"{key}: Extra inputs are not permitted"]
    try:
        validate(value)
    except ValidationError as error:
        return [f"{key}.{_line(detail)}" for detail in error.errors(include_url=False)]
    return []


def _differences(validator: SchemaValidator, value: Any) -> list[str]:
    try:
        validator.validate_python(value)
    except ValidationError as error:
        return _lines(error.errors(include_url=False))
    return []


def _lines(details: list[ErrorDetails]) -> list[str]:
    """Return the differences, without those of union alternatives that do not fit the value."""
    others = {detail["loc"][:-1] for detail in details if _is_tag(detail)}
    meant = [
        detail
        for detail in details
        if not any(detail["loc"][: len(other)] == other for other in others)
    ]
    return [_line(detail) for detail in meant or details]


def _is_tag(detail: ErrorDetails) -> bool:
    return detail["loc"][-1:] in (("type",), ("role",), ("stream",)) and detail["type"] in (
        "literal_error",
        "missing",
    )


def _line(detail: ErrorDetails) -> str:
    return f"{'.'.join(str(step) for step in detail['loc'])}: {detail['msg']}"
