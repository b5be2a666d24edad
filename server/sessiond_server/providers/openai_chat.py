"""OpenAI's Chat Completions API, and servers with the same protocol."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.dialects.openai_chat import fit
from sessiond_server.dialects.openai_chat_parts import ChatDialect
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.pieces import JSON
from sessiond_server.providers.api import AnswerBuilder
from sessiond_server.providers.base import Answer, Delta
from sessiond_server.providers.errors import ProviderCall, count_of
from sessiond_server.providers.json_text import dumps, require_text
from sessiond_server.providers.sdk import OpenAIProvider

# Strings that arrive in pieces. For any other string, the first non-empty value is kept.
_GROWING = {
    "content",
    "refusal",
    "reasoning",
    "reasoning_content",
    "arguments",
    "input",
    "data",
    "transcript",
    "text",
    "summary",
}
_REASONING = ("reasoning_content", "reasoning")


class ChatAnswerBuilder(AnswerBuilder):
    """Builds an answer from chunks. Only the first of several choices counts."""

    def __init__(self, call: ProviderCall) -> None:
        super().__init__(call)
        self._message: dict[str, Any] = {}
        self._usage: Usage | None = None

    def _add(self, event: Any) -> Iterator[Delta]:
        self._model = event.get("model") or self._model
        if usage := event.get("usage"):
            self._usage = _usage(usage)
        for choice in event.get("choices") or ():
            if choice.get("index"):
                continue
            self.stop_reason = choice.get("finish_reason") or self.stop_reason
            self.is_complete = bool(self.stop_reason)
            delta = _with_text_content(choice.get("delta") or {})
            _merge(self._message, delta)
            # Some servers send the same text under both names.
            if thought := next((delta[key] for key in _REASONING if delta.get(key)), None):
                yield Delta(require_text(thought), is_reasoning=True)
            if text := delta.get("content") or delta.get("refusal"):
                yield Delta(require_text(text))

    def _build(self) -> Answer:
        content = self._message.pop("content", None)
        calls = self._calls(self._message.pop("tool_calls", None) or [])
        rest = {
            key: value
            for key, value in self._message.items()
            if key != "role" and value not in (None, "", [])
        }
        if not (content or calls or rest.keys() - set(_REASONING) - {"reasoning_details"}):
            raise self._empty()
        message = {"role": "assistant", "content": content or None, **rest} | (
            {"tool_calls": calls} if calls else {}
        )
        try:
            text = dumps(message)
        except ValueError:
            raise self._call.invalid("sent an answer that cannot be stored as JSON") from None
        return Answer([text], self._model, self.stop_reason, self._usage)

    def _calls(self, calls: Any) -> list[JSON]:
        """Complete the calls: each gets a type, a unique id, and its arguments as text."""
        if not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            raise self._call.invalid("sent tool calls that do not follow the protocol")
        ids: set[str] = set()
        complete: list[JSON] = []
        for given in calls:
            call = {key: value for key, value in given.items() if key != "index"}
            if not isinstance(call.get("id"), str) or not call["id"] or call["id"] in ids:
                call["id"] = f"call_{uuid4().hex[:24]}"
            ids.add(call["id"])
            call["type"] = call.get("type") or "function"
            function = call.get("function")
            if isinstance(function, dict) and not isinstance(function.get("arguments"), str):
                arguments = function.get("arguments")
                text = "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)
                call["function"] = {**function, "arguments": text}
            complete.append({"id": call["id"], "type": call["type"], **call})
        return complete


class OpenAIChat(OpenAIProvider):
    """Calls Chat Completions. base_url does not include /chat/completions.

    Args:
        args: see ApiProvider.
        dialect: the features that the server accepts. Default: those of OpenAI's own server.
        settings: see ApiProvider.

    Attributes:
        dialect: the features that the server accepts.
    """

    _builder = ChatAnswerBuilder
    _path = "/chat/completions"
    _optional = (
        "stream_options",
        {"include_usage": True},
        "stream_options",
    )

    def __init__(self, *args: Any, dialect: ChatDialect | None = None, **settings: Any) -> None:
        self.dialect = dialect or ChatDialect()
        super().__init__(*args, **settings)

    def _fit(self, history: History) -> FittedRequest:
        return fit(history, self.dialect)


def _with_text_content(delta: JSON) -> JSON:
    """Return a delta with its content as text: some servers send a list of parts."""
    content = delta.get("content")
    if not isinstance(content, list):
        return delta
    new: dict[str, list[Any]] = {}
    for part in content:
        kind = part.get("type")
        if kind == "thinking":
            thoughts = part["thinking"]
            texts = [thoughts] if isinstance(thoughts, str) else [t["text"] for t in thoughts]
            new.setdefault("reasoning_content", []).extend(texts)
        elif kind == "image_url":
            new.setdefault("images", []).append(part)
        elif isinstance(part.get("text"), str):
            new.setdefault("content", []).append(part["text"])
        else:
            # A part that is not text, such as a reference to a source.
            new.setdefault("content_parts", []).append(part)
    return {key: value for key, value in delta.items() if key != "content"} | {
        key: "".join(value) if key in _GROWING else value for key, value in new.items()
    }


def _merge(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Merge a delta into the message so far.

    Raises:
        TypeError, AttributeError: if a value of the delta has another type than in the message.
    """
    for key, value in delta.items():
        before = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif before is None:
            whole[key] = _new(key, value)
        elif isinstance(value, str):
            # Some servers repeat names and ids, or send them empty.
            whole[key] = before + value if key in _GROWING else before or value
        elif isinstance(value, dict):
            _merge(before, value)
        elif isinstance(value, list):
            _merge_list(key, before, value)
        else:
            whole[key] = value


def _new(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        new: dict[str, Any] = {}
        _merge(new, value)
        return new
    if isinstance(value, list):
        items: list[Any] = []
        _merge_list(key, items, value)
        return items
    return value


def _merge_list(key: str, items: list[Any], delta: list[Any]) -> None:
    """Merge items by their index.

    Some servers give all tool calls the same index, or no index: then a new id starts a new call.
    """
    for item in delta:
        if not isinstance(item, dict) or ("index" not in item and key != "tool_calls"):
            items.append(item)
            continue
        same = [known for known in items if known.get("index") == item.get("index")]
        if same and not (
            key == "tool_calls"
            and item.get("id")
            and same[-1].get("id") not in (None, "", item["id"])
        ):
            _merge(same[-1], item)
        else:
            items.append(_new(key, item))


def _usage(usage: object) -> Usage:
    return Usage(
        input_tokens=count_of(usage, "prompt_tokens"),
        output_tokens=count_of(usage, "completion_tokens"),
        cached_input_tokens=count_of(usage, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=count_of(usage, "completion_tokens_details", "reasoning_tokens"),
    )
