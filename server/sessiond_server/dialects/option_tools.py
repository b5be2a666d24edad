"""Converts tools, and the choice among them, from the form of one API to that of another."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sessiond_server.formats.pieces import JSON, objects_of, string_of

Api: TypeAlias = Literal["chat", "responses", "anthropic", "gemini"]

_NAME_LENGTH: dict[Api, int] = {"chat": 64, "responses": 64, "anthropic": 128, "gemini": 128}
_ODD = {"gemini": r"[^a-zA-Z0-9_.:-]"}
_ODD_CHARACTER = r"[^a-zA-Z0-9_-]"
# Anthropic's own tools have a version in their types: bash_20250124.
_VERSION = re.compile(r"_20\d{6}$")
_CHOICES = {"auto": "auto", "none": "none", "any": "any", "required": "any", "validated": "any"}


@dataclass(frozen=True, slots=True)
class Function:
    """A tool that the caller runs.

    Attributes:
        schema: the JSON schema of its arguments. {} = not given.
        strict: whether the model must follow the schema exactly. None = not given.
    """

    name: str
    description: str
    schema: JSON
    strict: bool | None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tools the model may call.

    Attributes:
        mode: "auto", "none", "any", or "tool" for the tool `name`.
        name: the tool that must be called if the mode is "tool"; otherwise "".
    """

    mode: str
    name: str = ""


def api_of_tool(tool: JSON) -> Api:
    """Return the API whose form a tool has."""
    kind = string_of(tool.get("type"))
    if isinstance(tool.get("function"), dict) or isinstance(tool.get("custom"), dict):
        return "chat"
    if "input_schema" in tool or _VERSION.search(kind) or kind == "mcp_toolset":
        return "anthropic"
    if not kind and "name" not in tool:
        return "gemini"
    return "responses"


def functions_of(tool: JSON) -> Iterator[Function]:
    """Yield the functions that a tool of any API declares; none if the provider runs the tool."""
    match api_of_tool(tool):
        case "chat":
            if isinstance(inner := tool.get("function"), dict):
                yield function_of(inner, inner.get("parameters"))
        case "anthropic":
            if "input_schema" in tool:
                yield function_of(tool, tool["input_schema"])
        case "responses":
            if tool.get("type", "function") == "function":
                yield function_of(tool, tool.get("parameters"))
        case "gemini":
            for key in ("functionDeclarations", "function_declarations"):
                for inner in objects_of(tool.get(key)):
                    schemas = ("parametersJsonSchema", "parameters_json_schema", "parameters")
                    found = (inner[name] for name in schemas if inner.get(name) is not None)
                    yield function_of(inner, plain_schema(next(found, None)))


def function_of(source: JSON, schema: Any) -> Function:
    """Return a function with the name and the description of `source`."""
    strict = source.get("strict")
    return Function(
        string_of(source.get("name")),
        string_of(source.get("description")),
        schema if isinstance(schema, dict) else {},
        strict if isinstance(strict, bool) else None,
    )


def plain_schema(schema: Any) -> Any:
    """Return a schema with types in lower case, as in JSON Schema; Google also writes STRING."""
    if isinstance(schema, list):
        return [plain_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: item.lower() if key == "type" and isinstance(item, str) else plain_schema(item)
        for key, item in schema.items()
    }


def tool_name(name: str, api: Api) -> str:
    """Return a tool's name in the characters and the length that the API accepts."""
    return re.sub(_ODD.get(api, _ODD_CHARACTER), "_", name)[: _NAME_LENGTH[api]]


def tools_in(api: Api, functions: Sequence[Function]) -> list[JSON]:
    """Return tools in the form of an API."""
    made = [_function_in(api, function) for function in functions]
    return [{"functionDeclarations": made}] if api == "gemini" and made else made


def _function_in(api: Api, function: Function) -> JSON:
    made: JSON = {"name": tool_name(function.name, api)}
    if function.description:
        made["description"] = function.description
    schema = function.schema
    if api == "anthropic":
        return made | {
            "input_schema": schema if schema.get("type") else {"type": "object"} | schema
        }
    if api == "gemini":
        return made | ({"parametersJsonSchema": schema} if schema else {})
    strict = {} if function.strict is None else {"strict": function.strict}
    if api == "chat":
        parameters = {"parameters": schema} if schema else {}
        return {"type": "function", "function": made | parameters | strict}
    # The default of the Responses API is a strict schema, unlike that of Chat Completions.
    schema = schema or {"type": "object", "properties": {}}
    return {"type": "function", **made, "parameters": schema, "strict": function.strict or False}


def read_choice(value: Any) -> Choice | None:
    """Parse a choice that has the form of any API. None = other APIs have no equivalent."""
    if isinstance(value, str):
        mode = _CHOICES.get(value.lower())
        return Choice(mode) if mode else None
    if not isinstance(value, dict):
        return None
    for key in ("functionCallingConfig", "function_calling_config"):
        if isinstance(inner := value.get(key), dict):
            names = inner.get("allowedFunctionNames", inner.get("allowed_function_names"))
            if isinstance(names, list) and len(names) == 1:
                return Choice("tool", string_of(names[0]))
            return None if names else read_choice(inner.get("mode"))
    named = value.get("function")
    name = string_of((named if isinstance(named, dict) else value).get("name"))
    if name and value.get("type", "function") in ("function", "tool"):
        return Choice("tool", name)
    return read_choice(value.get("type"))


def is_own_choice(api: Api, value: Any) -> bool:
    """Whether the value of tool_choice is in the form of this API."""
    kind = value.get("type") if isinstance(value, dict) else None
    if api == "anthropic":
        return kind in ("auto", "any", "none", "tool")
    if isinstance(value, str):
        return value != "any"
    if kind in ("auto", "any", "none", "tool", None):
        return False
    return (api == "chat") is (kind in value)


def choice_in(api: Api, choice: Choice) -> Any:
    """Return a choice in the form of an API: the value of tool_choice, or of toolConfig."""
    name = tool_name(choice.name, api)
    match api:
        case "anthropic":
            return {"type": choice.mode} | ({"name": name} if name else {})
        case "gemini":
            config = {"mode": "ANY" if choice.mode == "tool" else choice.mode.upper()}
            names = {"allowedFunctionNames": [name]} if name else {}
            return {"functionCallingConfig": config | names}
        case "chat" if name:
            return {"type": "function", "function": {"name": name}}
        case "responses" if name:
            return {"type": "function", "name": name}
        case _:
            return "required" if choice.mode == "any" else choice.mode
