"""OpenAI's Responses API."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from sessiond.v1.turn_pb2 import Usage
from sessiond_server.dialects.openai_responses import fit
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.pieces import JSON
from sessiond_server.providers.api import AnswerBuilder
from sessiond_server.providers.base import Answer, Delta
from sessiond_server.providers.errors import ProviderCall, count_of
from sessiond_server.providers.json_text import dumps, require_text
from sessiond_server.providers.sdk import OpenAIProvider

_DELTAS = {
    "response.output_text.delta": False,
    "response.refusal.delta": False,
    "response.reasoning_summary_text.delta": True,
    "response.reasoning_text.delta": True,
}


class ResponsesAnswerBuilder(AnswerBuilder):
    """Builds an answer from the events of the Responses API: each item becomes a message."""

    def __init__(self, call: ProviderCall) -> None:
        super().__init__(call)
        self._items: dict[int, JSON] = {}
        # The arguments of calls, which are used if a call's item never arrives complete.
        self._arguments: dict[int, str] = {}
        self._usage: Usage | None = None

    def _add(self, event: Any) -> Iterator[Delta]:
        kind = event["type"]
        match kind:
            case "response.created" | "response.in_progress" | "response.queued":
                self._model = event["response"].get("model") or self._model
            case "response.output_item.added" | "response.output_item.done":
                self._items[event["output_index"]] = dict(event["item"])
            case _ if kind in _DELTAS:
                yield Delta(require_text(event["delta"]), is_reasoning=_DELTAS[kind])
            case "response.reasoning_summary_part.added" if event.get("summary_index"):
                # The parts of a summary are separate paragraphs.
                yield Delta("\n\n", is_reasoning=True)
            case "response.function_call_arguments.delta":
                index = event["output_index"]
                self._arguments[index] = self._arguments.get(index, "") + event["delta"]
            case "response.function_call_arguments.done":
                self._arguments[event["output_index"]] = require_text(event["arguments"])
            case "response.completed" | "response.incomplete":
                self._end(event["response"])
            case "response.failed":
                raise self._call.stream_fault(event["response"])
            case "error":
                raise self._call.stream_fault(event)
            case _:
                pass

    def _end(self, response: JSON) -> None:
        self._model = response.get("model") or self._model
        reason = (response.get("incomplete_details") or {}).get("reason")
        self.stop_reason = reason or response.get("status") or "completed"
        if output := response.get("output"):
            self._items = {index: dict(item) for index, item in enumerate(output)}
            self._arguments.clear()
        if usage := response.get("usage"):
            self._usage = Usage(
                input_tokens=count_of(usage, "input_tokens"),
                output_tokens=count_of(usage, "output_tokens"),
                cached_input_tokens=count_of(usage, "input_tokens_details", "cached_tokens"),
                reasoning_tokens=count_of(usage, "output_tokens_details", "reasoning_tokens"),
            )
        self.is_complete = self.is_last = True

    def _build(self) -> Answer:
        for index, arguments in self._arguments.items():
            item = self._items.get(index)
            if item and item.get("type") == "function_call" and not item.get("arguments"):
                item["arguments"] = arguments
        items = [item for _, item in sorted(self._items.items())]
        if all(item.get("type") == "reasoning" for item in items):
            raise self._empty()
        try:
            messages = [dumps(item) for item in items]
        except ValueError:
            raise self._call.invalid("sent an answer that cannot be stored as JSON") from None
        return Answer(messages, self._model, self.stop_reason, self._usage)


class OpenAIResponses(OpenAIProvider):
    """Calls the Responses API. base_url does not include /responses.

    The API stores nothing and returns the model's reasoning encrypted, unless the options `store`
    or `include` say otherwise.
    """

    _builder = ResponsesAnswerBuilder
    _path = "/responses"
    _messages_key = "input"
    _defaults = MappingProxyType({"store": False})
    # Models without reasoning refuse this field.
    _optional = (
        "include",
        ["reasoning.encrypted_content"],
        "Encrypted content is not supported|'include'",
    )

    def _fit(self, history: History) -> FittedRequest:
        return fit(history)
