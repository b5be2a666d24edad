"""Anthropic's Messages API."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.dialects.anthropic import AnthropicDialect, fit
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.providers.api import AnswerBuilder
from sessiond_server.providers.base import Answer, Delta
from sessiond_server.providers.errors import ProviderCall, count_of
from sessiond_server.providers.json_text import dumps, parse_arguments, require_text
from sessiond_server.providers.sdk import SdkProvider

# The API requires a limit. This one exceeds nearly all answers, and older models accept it too.
DEFAULT_MAX_TOKENS = 8192


class MessagesAnswerBuilder(AnswerBuilder):
    """Builds an answer from the events of the Messages API."""

    def __init__(self, call: ProviderCall) -> None:
        super().__init__(call)
        self._blocks: dict[int, dict[str, Any]] = {}
        # The inputs of tool calls arrive as pieces of JSON text.
        self._inputs: dict[int, str] = {}
        self._usage: dict[str, Any] = {}

    def _add(self, event: Any) -> Iterator[Delta]:
        match event["type"]:
            case "message_start":
                message = event["message"]
                self._model = message.get("model") or ""
                self._update_usage(message.get("usage"))
            case "content_block_start":
                block = dict(event["content_block"])
                self._blocks[event["index"]] = block
                is_text = block["type"] == "text"
                if text := block.get("text" if is_text else "thinking"):
                    yield Delta(require_text(text), is_reasoning=not is_text)
            case "content_block_delta":
                yield from self._extend(self._blocks[event["index"]], event)
            case "message_delta":
                self.stop_reason = event["delta"].get("stop_reason") or self.stop_reason
                self._update_usage(event.get("usage"))
            case "message_stop":
                self.is_complete = self.is_last = True
            case _:
                pass

    def _extend(self, block: dict[str, Any], event: dict[str, Any]) -> Iterator[Delta]:
        index, delta = event["index"], event["delta"]
        match delta["type"]:
            case "text_delta":
                block["text"] = (block.get("text") or "") + delta["text"]
                yield Delta(delta["text"])
            case "thinking_delta":
                block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
                yield Delta(delta["thinking"], is_reasoning=True)
            case "signature_delta":
                block["signature"] = require_text(delta["signature"])
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case _:
                pass

    def _update_usage(self, usage: Any) -> None:
        # The counts in a message_delta are totals; a count that is left out has not changed.
        self._usage |= {key: value for key, value in (usage or {}).items() if value is not None}

    def _build(self) -> Answer:
        try:
            for index, text in self._inputs.items():
                if text:
                    self._blocks[index]["input"] = parse_arguments(text)
            blocks = [block for _, block in sorted(self._blocks.items())]
            # The API returns blank texts together with calls, but refuses them in requests.
            content = [block for block in blocks if not _is_blank(block)] or [
                block for block in blocks if block.get("text")
            ]
            if not content:
                raise self._empty()
            text = dumps({"role": "assistant", "content": content})
        except ValueError:
            raise self._call.invalid(
                f"called a tool with arguments that are not JSON ({self.stop_reason})"
            ) from None
        return Answer([text], self._model, self.stop_reason, self._total_usage())

    def _total_usage(self) -> Usage | None:
        counts = self._usage
        if not counts:
            return None
        cached = count_of(counts, "cache_read_input_tokens")
        return Usage(
            input_tokens=count_of(counts, "input_tokens")
            + cached
            + count_of(counts, "cache_creation_input_tokens"),
            output_tokens=count_of(counts, "output_tokens"),
            cached_input_tokens=cached,
            reasoning_tokens=count_of(counts, "output_tokens_details", "thinking_tokens"),
        )


def _is_blank(block: dict[str, Any]) -> bool:
    return block.get("type") == "text" and not (block.get("text") or "").strip()


class AnthropicMessages(SdkProvider):
    """Calls the Messages API. base_url does not include /v1/messages.

    The option `max_tokens` defaults to DEFAULT_MAX_TOKENS. The text of the option `system` precedes
    the request's system prompt.

    Args:
        args: see ApiProvider.
        dialect: the features that the model accepts. Default: those that all models accept.
        settings: see ApiProvider.
    """

    format = FORMAT_ANTHROPIC
    _builder = MessagesAnswerBuilder
    _path = "/v1/messages"
    _defaults = MappingProxyType({"max_tokens": DEFAULT_MAX_TOKENS})

    def __init__(
        self, *args: Any, dialect: AnthropicDialect | None = None, **settings: Any
    ) -> None:
        self._dialect = dialect or AnthropicDialect()
        super().__init__(*args, **settings)

    @staticmethod
    def _import_sdk() -> tuple[Any, Any]:
        import anthropic

        return anthropic, anthropic.AsyncAnthropic

    def _fit(self, history: History) -> FittedRequest:
        return fit(history, self._dialect)
