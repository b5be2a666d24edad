"""OpenAI's Chat Completions API, and the servers that speak the same protocol."""

from collections.abc import Iterator
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.base import Answer, Delta, ModelRequest
from sessiond_server.providers.conversion import for_openai
from sessiond_server.providers.errors import ProviderCall, ProviderFault, count_of
from sessiond_server.providers.files import AssetContents
from sessiond_server.providers.json_text import dumps, require_text
from sessiond_server.providers.sdk import AnswerBuilder, SdkProvider

# Strings that arrive in pieces. Of any other string, the first non-empty one counts.
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
            delta = choice.get("delta") or {}
            _merge(self._message, delta)
            # Some servers send the same text under both names.
            if thought := next((delta[key] for key in _REASONING if delta.get(key)), None):
                yield Delta(require_text(thought), is_reasoning=True)
            if text := delta.get("content") or delta.get("refusal"):
                yield Delta(require_text(text))

    def _build(self) -> Answer:
        content = self._message.pop("content", None)
        calls = self._message.pop("tool_calls", None) or []
        if not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            raise self._call.invalid("sent tool calls that do not follow the protocol")
        calls = [{key: value for key, value in call.items() if key != "index"} for call in calls]
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
        return Answer(json=text, model=self._model, stop_reason=self.stop_reason, usage=self._usage)


class OpenAIChat(SdkProvider):
    """Calls Chat Completions. base_url does not include /chat/completions."""

    format = FORMAT_OPENAI
    _builder = ChatAnswerBuilder
    _knows_stream_options = True

    @staticmethod
    def _import_sdk() -> tuple[Any, Any]:
        import openai

        return openai, openai.AsyncOpenAI

    def _make_body(self, request: ModelRequest, assets: AssetContents) -> dict[str, Any]:
        messages = for_openai(request.messages, assets, request.system_prompt)
        return {**request.options, "model": request.model, "messages": messages, "stream": True}

    async def _open(self, call: ProviderCall, body: dict[str, Any]) -> Any:
        """Send the request, without stream_options if the server does not know them."""
        if self._knows_stream_options:
            # Request the usage, unless the caller sets stream_options.
            try:
                return await super()._open(call, {"stream_options": {"include_usage": True}} | body)
            except ProviderFault as fault:
                if (
                    fault.reason != "MODEL_REQUEST_REJECTED"
                    or "stream_options" not in fault.message
                    or "stream_options" in body
                ):
                    raise
                self._knows_stream_options = False
        return await super()._open(call, body)

    async def _post(self, body: dict[str, Any]) -> Any:
        # Not chat.completions.create(): it accepts only the options that it knows, and turns the
        # JSON that is to be stored unchanged into models. The explicit security option keeps the
        # SDK from sending an admin key of the environment.
        return await self._client.post(
            "/chat/completions",
            body=body,
            cast_to=object,
            options={"security": {"bearer_auth": True}},
            stream=True,
            stream_cls=self._sdk.AsyncStream[object],
        )


def _merge(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Merge a delta into the message so far.

    Raises:
        TypeError, AttributeError: if it does not fit.
    """
    for key, value in delta.items():
        before = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif before is None:
            whole[key] = _new(key, value)
        elif isinstance(value, str):
            # Servers repeat names and ids, or send them empty.
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

    Some servers give all tool calls the same index, or none: then a new id starts a new call.
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
