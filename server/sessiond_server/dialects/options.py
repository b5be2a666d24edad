"""Converts the options of one API to those of another, so that a session can change its model.

The options of a session (`config.model_options`) stay when its model changes. An option is sent
unchanged if the API of the model has it. An option that no known API has is also sent unchanged,
because APIs get new options. An option that only other APIs have is sent under the name that this
API has for it, or left out if this API has no such option. Both changes are reported.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sessiond_server.dialects.option_tools import (
    Api,
    Function,
    api_of_tool,
    choice_in,
    function_of,
    functions_of,
    is_own_choice,
    plain_schema,
    read_choice,
    tools_in,
)
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.pieces import JSON, objects_of, string_of
from sessiond_server.formats.report import ChangeKind, Report

_OPENAI = frozenset(
    {"metadata", "moderation", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_options"}
    | {"prompt_cache_retention", "safety_identifier", "service_tier", "store", "stream_options"}
    | {"temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user"}
)
_OWN: Mapping[Api, frozenset[str]] = {
    "chat": _OPENAI
    | {"audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"}
    | {"max_completion_tokens", "max_tokens", "modalities", "n", "prediction", "presence_penalty"}
    | {"reasoning_effort", "response_format", "seed", "stop", "verbosity", "web_search_options"},
    "responses": _OPENAI
    | {"background", "context_management", "conversation", "include", "instructions"}
    | {"max_output_tokens", "max_tool_calls", "previous_response_id", "prompt", "reasoning"}
    | {"text", "truncation"},
    "anthropic": frozenset(
        {"cache_control", "container", "context_management", "inference_geo", "max_tokens"}
        | {"metadata", "output_config", "service_tier", "speed", "stop_sequences", "system"}
        | {"temperature", "thinking", "tool_choice", "tools", "top_k", "top_p"}
    ),
    "gemini": frozenset(
        {"tools", "toolConfig", "safetySettings", "systemInstruction", "generationConfig"}
        | {"cachedContent", "labels", "serviceTier", "store"}
    ),
}
# The fields of Gemini's generationConfig. In Google's SDKs, they are among the other options.
_GENERATION = frozenset(
    {"audioTimestamp", "candidateCount", "enableAffectiveDialog", "frequencyPenalty", "imageConfig"}
    | {"logprobs", "maxOutputTokens", "mediaResolution", "presencePenalty", "responseJsonSchema"}
    | {"responseLogprobs", "responseMimeType", "responseModalities", "responseSchema", "seed"}
    | {"speechConfig", "stopSequences", "temperature", "thinkingConfig", "topK", "topP"}
)
# The name of each option in each API.
_NAMES: Mapping[str, Mapping[Api, str]] = {
    "max_tokens": {
        "chat": "max_completion_tokens",
        "responses": "max_output_tokens",
        "anthropic": "max_tokens",
        "gemini": "maxOutputTokens",
    },
    "temperature": {
        "chat": "temperature",
        "responses": "temperature",
        "anthropic": "temperature",
        "gemini": "temperature",
    },
    "top_p": {"chat": "top_p", "responses": "top_p", "anthropic": "top_p", "gemini": "topP"},
    "top_k": {"anthropic": "top_k", "gemini": "topK"},
    "stop": {"chat": "stop", "anthropic": "stop_sequences", "gemini": "stopSequences"},
    "seed": {"chat": "seed", "gemini": "seed"},
    "presence_penalty": {"chat": "presence_penalty", "gemini": "presencePenalty"},
    "frequency_penalty": {"chat": "frequency_penalty", "gemini": "frequencyPenalty"},
    "effort": {"chat": "reasoning_effort"},
    "verbosity": {"chat": "verbosity"},
    "system": {"responses": "instructions", "anthropic": "system", "gemini": "systemInstruction"},
    "format": {"chat": "response_format"},
    "choice": {"chat": "tool_choice", "responses": "tool_choice", "anthropic": "tool_choice"},
    "parallel": {"chat": "parallel_tool_calls", "responses": "parallel_tool_calls"},
    "tools": {"chat": "tools", "responses": "tools", "anthropic": "tools", "gemini": "tools"},
}
_OPTIONS = {
    **{name: option for option, names in _NAMES.items() for name in names.values()},
    "max_tokens": "max_tokens",
    "function_call": "choice",
    "toolConfig": "choice",
}
# Servers that are compatible with Chat Completions also know these options of other APIs.
_COMPATIBLE = ("top_k", "reasoning", "thinking", "cache_control")
_FORMAT_FIELDS = ("responseMimeType", "responseSchema", "responseJsonSchema")


def with_options(
    history: History,
    api: Api,
    write: Callable[[History], FittedRequest],
    *,
    is_compatible: bool = False,
) -> FittedRequest:
    """Create a request of a history whose options have the names that an API knows.

    Args:
        history: the history.
        api: the API.
        write: creates the request of the history with these options.
        is_compatible: see convert_options.

    Returns:
        The request, which also reports the changes of the options.
    """
    history, changes = convert_options(history, api, is_compatible=is_compatible)
    request = write(history)
    request.report.add_all(changes)
    return request


def convert_options(
    history: History, api: Api, *, is_compatible: bool = False
) -> tuple[History, Report]:
    """Return a history whose options have the names that an API knows.

    Args:
        history: the history.
        api: the API.
        is_compatible: whether the server is compatible with OpenAI's, but is not OpenAI's own. Such
            servers have options and tools of their own.

    Returns:
        The history and the changes. If the options contain instructions, and the API accepts
        instructions only as a message, they become part of the system prompt.
    """
    fitting = _Fitting(api, is_compatible)
    for key, value in history.options.items():
        fitting.add(key, value)
    fitting.finish()
    report = Report()
    for key, kind in fitting.changes.items():
        report.add(0, kind, f"options.{key}")
    if not fitting.changes and fitting.body == history.options:
        return history, report
    prompt = "\n\n".join(filter(None, (*fitting.instructions, history.system_prompt)))
    return replace(history, options=fitting.body, system_prompt=prompt), report


class _Fitting:
    """The options of one request. If an option is given twice, the later one counts.

    Attributes:
        body: the options under the API's names.
        changes: how options were changed, by the option's key.
        instructions: instructions that the API accepts only as a message.
    """

    def __init__(self, api: Api, is_compatible: bool) -> None:
        self._api = api
        self._is_compatible = is_compatible
        self._generation: JSON = {}
        self._is_parallel = True
        self._has_other_tools = False
        self.body: JSON = {}
        self.changes: dict[str, ChangeKind] = {}
        self.instructions: list[str] = []

    def add(self, key: str, value: Any) -> None:
        """Add an option of any API."""
        name = _own_name(key, self._api)
        if name == "tools" and isinstance(value, list):
            self._add_tools(key, value)
        elif name == "functions" and self._api != "chat":
            functions = [function_of(item, item.get("parameters")) for item in objects_of(value)]
            self._write_tools(functions)
            self.changes[key] = ChangeKind.FIELD_CHANGED
        elif name == "generationConfig" and self._api == "gemini" and isinstance(value, dict):
            self.body[name] = {}  # finish() sets the value; the key keeps its place in the order.
            self._generation.update(value)
        elif self._is_own(name, value):
            # If Gemini's instructions are given in both spellings, the dialect sends both texts.
            self.body[key if name == "systemInstruction" else name] = value
        elif self._api == "gemini" and name in _GENERATION:
            self._generation[name] = value
            self.changes[key] = ChangeKind.FIELD_CHANGED
        else:
            self._convert(key, name, value)

    def finish(self) -> None:
        """Set the fields of the request that depend on several options."""
        if self._generation:
            self.body["generationConfig"] = self._generation
        if self._api == "anthropic" and not self._is_parallel and self.body.get("tools"):
            choice = self.body.get("tool_choice", {"type": "auto"})
            if choice.get("type") != "none":
                self.body["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
        if self._has_other_tools and not self.body.get("tools", True):
            # None of the tools is left. APIs refuse a choice among no tools.
            for key in ("tools", "tool_choice", "toolConfig", "parallel_tool_calls"):
                if self.body.pop(key, None):
                    self.changes[key] = ChangeKind.FIELD_REMOVED

    def _is_own(self, name: str, value: Any) -> bool:
        if name == "max_tokens" and self._api == "chat":
            # OpenAI's newer models refuse max_tokens. All accept max_completion_tokens.
            return self._is_compatible
        if name == "tool_choice":
            is_word = self._is_compatible and isinstance(value, str)
            return is_word or (self._api != "gemini" and is_own_choice(self._api, value))
        if self._is_compatible and name in _COMPATIBLE:
            fields = value if isinstance(value, dict) else {}
            # Only the Responses API and Anthropic accept their own forms of these options.
            is_anthropics = "budget_tokens" in fields or fields.get("type") == "adaptive"
            return not (is_anthropics or "summary" in fields or fields.keys() == {"effort"})
        known = any(name in names for names in _OWN.values()) or name in _GENERATION
        return name in _OWN[self._api] or not known

    def _convert(self, key: str, name: str, value: Any) -> None:
        written = {field: self._write(option, item) for field, option, item in _read(name, value)}
        if any(written.values()):
            self.changes[key] = ChangeKind.FIELD_CHANGED
            for field, is_written in written.items():
                if not is_written:
                    self.changes[f"{key}.{field}"] = ChangeKind.FIELD_REMOVED
        else:
            self.changes[key] = ChangeKind.FIELD_REMOVED

    def _write(self, option: str, value: Any) -> bool:
        """Write an option under its name in the API. Return whether the API has it."""
        api = self._api
        if value is None or not option:
            return False
        match option:
            case "system":
                return self._write_instructions(_text_of(value))
            case "format":
                return self._write_format(value)
            case "choice":
                name = "toolConfig" if api == "gemini" else "tool_choice"
                self.body[name] = choice_in(api, value)
                return True
            case "parallel" if api == "anthropic":
                self._is_parallel = value is not False
                return True
            case "effort" if api == "responses":
                self._merge("reasoning", {"effort": value})
                return True
            case "verbosity" if api == "responses":
                self._merge("text", {"verbosity": value})
                return True
            case "stop" if api in ("anthropic", "gemini"):
                given = value if isinstance(value, list) else [value]
                value = [text for text in given if isinstance(text, str) and text.strip()]
            case _:
                pass
        target = _NAMES[option].get(api)
        if option == "max_tokens" and self._is_compatible:
            target = "max_tokens"
        if not target:
            return False
        (self._generation if api == "gemini" else self.body)[target] = value
        return True

    def _merge(self, key: str, fields: JSON) -> None:
        stored = self.body.get(key)
        self.body[key] = {**(stored if isinstance(stored, dict) else {}), **fields}

    def _write_instructions(self, text: str) -> bool:
        match self._api:
            case _ if not text.strip():
                return False
            case "chat":
                self.instructions.append(text)
            case "gemini":
                self.body["systemInstruction"] = {"parts": [{"text": text}]}
            case api:
                self.body[_NAMES["system"][api]] = text
        return True

    def _write_format(self, form: JSON) -> bool:
        schema = form.get("schema")
        match self._api:
            case "responses":
                self._merge("text", {"format": form})
            case "chat" if schema is not None:
                inner = {key: item for key, item in form.items() if key != "type"}
                self.body["response_format"] = {"type": "json_schema", "json_schema": inner}
            case "chat":
                self.body["response_format"] = form
            case "anthropic" if schema is not None:
                self._merge("output_config", {"format": {"type": "json_schema", "schema": schema}})
            case "gemini" if form.get("type") != "text":
                self._generation["responseMimeType"] = "application/json"
                if schema is not None:
                    self._generation["responseJsonSchema"] = schema
            case _:
                return False
        return True

    def _add_tools(self, key: str, tools: list[Any]) -> None:
        own: list[Any] = []
        functions: list[Function] = []
        for tool in tools:
            found = [*functions_of(tool)] if isinstance(tool, dict) else []
            is_own = not isinstance(tool, dict) or api_of_tool(tool) == self._api
            if is_own or (self._is_compatible and not found):
                own.append(tool)
                continue
            functions += found
            self._has_other_tools = True
            kind = ChangeKind.FIELD_CHANGED if found else ChangeKind.FIELD_REMOVED
            self.changes[key] = max(kind, self.changes.get(key, kind), key=_is_removal)
        self.body[key] = own
        self._write_tools(functions)

    def _write_tools(self, functions: list[Function]) -> None:
        if functions:
            self.body["tools"] = [*self.body.get("tools", ()), *tools_in(self._api, functions)]


def _is_removal(kind: ChangeKind) -> bool:
    return kind is ChangeKind.FIELD_REMOVED


def _own_name(key: str, api: Api) -> str:
    """Return a key in the spelling of its API: Google's SDK for Python writes top_k for topK."""
    first, *words = key.split("_")
    camel = first + "".join(map(str.capitalize, words))
    is_googles = camel in _OWN["gemini"] or camel in _GENERATION
    is_others = api != "gemini" and any(key in names for names in _OWN.values())
    return camel if is_googles and not is_others else key


def _read(name: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the options that a field of a request contains.

    Yields:
        The name of the inner field ("" = the whole field), a key of _NAMES ("" = it is none of
        these options), and the value.
    """
    inner = value if isinstance(value, dict) else {}
    match name:
        case "generationConfig":
            fields = {_own_name(key, "gemini"): item for key, item in inner.items()}
            for key, item in fields.items():
                if key not in _FORMAT_FIELDS:
                    yield key, _OPTIONS.get(key, ""), item
            yield from _google_format(fields)
        case "text" | "output_config" | "reasoning":
            for key, item in inner.items():
                if key == "format" and isinstance(item, dict):
                    yield key, key, {"name": "answer", **item} if "schema" in item else item
                else:
                    yield key, key if key in ("verbosity", "effort") else "", item
        case "response_format":
            schema = inner.get("json_schema")
            rest = {"name": "answer", **schema} if isinstance(schema, dict) else {}
            yield "", "format", {"type": inner.get("type"), **rest}
        case "tool_choice" | "function_call" | "toolConfig":
            if choice := read_choice(value):
                yield "", "choice", choice
        case _ if name in _FORMAT_FIELDS:
            yield from _google_format({name: value})
        case _:
            yield "", _OPTIONS.get(name, ""), value


def _google_format(fields: JSON) -> Iterator[tuple[str, str, JSON]]:
    schema = fields.get("responseJsonSchema", plain_schema(fields.get("responseSchema")))
    if isinstance(schema, dict):
        form = {"type": "json_schema", "name": "answer", "schema": schema}
        yield "responseSchema", "format", form
    elif fields.get("responseMimeType") == "application/json":
        yield "responseMimeType", "format", {"type": "json_object"}


def _text_of(value: Any) -> str:
    """Return the text of instructions in the form of any API."""
    if isinstance(value, list):
        return "\n\n".join(filter(None, map(_text_of, value)))
    if isinstance(value, dict):
        return _text_of(value["parts"]) if "parts" in value else string_of(value.get("text"))
    return string_of(value)
