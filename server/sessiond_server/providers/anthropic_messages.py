"""Anthropic's Messages API."""

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sessiond.v1.message_pb2 import FORMAT_ANTHROPIC, Format
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.base import Answer, Delta, ModelRequest
from sessiond_server.providers.conversion import for_anthropic
from sessiond_server.providers.errors import ProviderCall, count_of
from sessiond_server.providers.files import with_assets
from sessiond_server.providers.json_text import dumps, replace_surrogates
from sessiond_server.providers.retries import retried

if TYPE_CHECKING:
    import anthropic

CONNECT_TIMEOUT_S = 10.0
# The API wants one. More than nearly all answers have, and no more than the older models take.
DEFAULT_MAX_TOKENS = 8192
# A server that asks for no key still gets one: the SDK would otherwise take one from the environment or from a profile on disk.
NO_KEY = "none"


class AnthropicMessages:
    """Asks by the Messages API.

    Args:
        name: in the server's settings.
        base_url: up to /v1/messages, which is added.
        api_key: None = the server asks for none.
        silence_timeout_s: how long not a byte may come.
        retries: after the first attempt.

    Raises: ModuleNotFoundError where the SDK is not installed.
    """

    format: Format.ValueType = FORMAT_ANTHROPIC

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        silence_timeout_s: float,
        retries: int,
    ) -> None:
        import anthropic
        import httpx2

        self.name = name
        self._sdk = anthropic
        self._key = api_key
        self._silence_timeout_s = silence_timeout_s
        self._retries = retries
        self._client = anthropic.AsyncAnthropic(
            base_url=base_url,
            api_key=api_key or NO_KEY,
            max_retries=0,
            timeout=httpx2.Timeout(
                silence_timeout_s, connect=min(CONNECT_TIMEOUT_S, silence_timeout_s)
            ),
        )

    async def ask(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See Provider. Options: max_tokens is DEFAULT_MAX_TOKENS unless they say otherwise; a system of theirs goes before the prompt."""
        asked = ProviderCall(self.name, request.model, self._silence_timeout_s, self._key)
        with asked.translated(self._sdk):
            system, messages = await with_assets(
                lambda assets: for_anthropic(request.messages, assets, request.system_prompt),
                request.load_asset,
            )
        body = {
            "max_tokens": DEFAULT_MAX_TOKENS,
            **request.options,
            "model": request.model,
            "messages": messages,
            "stream": True,
        }
        if given := request.options.get("system"):
            system = [
                *(given if isinstance(given, list) else [{"type": "text", "text": given}]),
                *system,
            ]
        if system:
            body["system"] = system
        async with aclosing(
            retried(lambda: self._attempt(asked, body), retries=self._retries)
        ) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """See Provider."""
        await self._client.close()

    async def _attempt(
        self, asked: ProviderCall, body: dict[str, Any]
    ) -> AsyncGenerator[Delta | Answer, None]:
        answer = MessageAnswer(asked)
        stream = await self._open(asked, body)
        try:
            with asked.translated(self._sdk):
                while not answer.is_whole:
                    try:
                        event = await anext(stream)
                    except StopAsyncIteration:
                        break
                    for delta in answer.take(event):
                        yield delta
        finally:
            await stream.close()
        yield answer.whole(
            is_event_stream="text/event-stream" in stream.response.headers.get("content-type", "")
        )

    async def _open(
        self, asked: ProviderCall, body: dict[str, Any]
    ) -> "anthropic.AsyncStream[object]":
        with asked.translated(self._sdk):
            try:
                return await self._send(body)
            except UnicodeEncodeError:
                return await self._send(replace_surrogates(body))

    async def _send(self, body: dict[str, Any]) -> "anthropic.AsyncStream[object]":
        # Not messages.create(): that takes no options but those that it knows, and makes models of what is kept as it comes.
        return await self._client.post(
            "/v1/messages",
            body=body,
            cast_to=object,
            stream=True,
            stream_cls=self._sdk.AsyncStream[object],
        )


class MessageAnswer:
    """An answer as it grows out of events."""

    def __init__(self, asked: ProviderCall) -> None:
        self._asked = asked
        self._blocks: dict[int, dict[str, Any]] = {}
        # The inputs of calls come as pieces of JSON.
        self._inputs: dict[int, str] = {}
        self._model = ""
        self._usage: dict[str, Any] = {}
        self._has_events = False
        self.stop_reason = ""
        self.is_whole = False

    def take(self, event: Any) -> Iterator[Delta]:
        """Add an event. Raises: ProviderFault MODEL_ANSWER_INVALID where it is not one."""
        try:
            self._has_events = True
            match event["type"]:
                case "message_start":
                    message = event["message"]
                    self._model = message.get("model") or ""
                    self._count(message.get("usage"))
                case "content_block_start":
                    block = dict(event["content_block"])
                    self._blocks[event["index"]] = block
                    if (
                        text := block.get("text")
                        if block["type"] == "text"
                        else block.get("thinking")
                    ):
                        yield Delta(_text(text), is_reasoning=block["type"] != "text")
                case "content_block_delta":
                    yield from self._grow(event["index"], event["delta"])
                case "message_delta":
                    self.stop_reason = event["delta"].get("stop_reason") or self.stop_reason
                    self._count(event.get("usage"))
                case "message_stop":
                    self.is_whole = True
                case _:
                    pass
        except (AttributeError, KeyError, TypeError):
            raise self._asked.invalid("sent an event that is not of the protocol") from None

    def whole(self, *, is_event_stream: bool = True) -> Answer:
        """The answer. Raises: ProviderFault where the stream ended too early, or with nothing that could be stored."""
        if not self._has_events and not is_event_stream:
            raise self._asked.invalid("did not answer with a stream of events")
        if not self.is_whole:
            raise self._asked.broken_off()
        try:
            for index, text in self._inputs.items():
                if text:
                    self._blocks[index]["input"] = json.loads(text)
            # Empty texts do come, and are refused when they are sent back.
            content = [
                block
                for _, block in sorted(self._blocks.items())
                if block.get("type") != "text" or block.get("text")
            ]
            if not content:
                raise self._asked.invalid(
                    f"ended its answer without any content ({self.stop_reason})"
                )
            text = dumps({"role": "assistant", "content": content})
        except ValueError:
            raise self._asked.invalid(
                f"called a tool with what is not JSON ({self.stop_reason})"
            ) from None
        return Answer(
            json=text, model=self._model, stop_reason=self.stop_reason, usage=self._counted()
        )

    def _grow(self, index: int, delta: dict[str, Any]) -> Iterator[Delta]:
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block["text"] = (block.get("text") or "") + delta["text"]
                yield Delta(delta["text"])
            case "thinking_delta":
                block["thinking"] = (block.get("thinking") or "") + delta["thinking"]
                yield Delta(delta["thinking"], is_reasoning=True)
            case "signature_delta":
                block["signature"] = _text(delta["signature"])
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case _:
                pass

    def _count(self, usage: Any) -> None:
        # The counts of a message_delta are totals; what it leaves out stands as it was.
        self._usage |= {key: value for key, value in (usage or {}).items() if value is not None}

    def _counted(self) -> Usage | None:
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


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
