"""OpenAI's Chat Completions, and whoever speaks the same protocol."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Format
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.base import Answer, Delta, ModelRequest
from sessiond_server.providers.conversion import for_openai
from sessiond_server.providers.errors import ProviderCall, ProviderFault, count_of
from sessiond_server.providers.files import with_assets
from sessiond_server.providers.json_text import dumps, replace_surrogates
from sessiond_server.providers.retries import retried

if TYPE_CHECKING:
    import openai

CONNECT_TIMEOUT_S = 10.0
# A server that asks for no key still gets one: the SDK insists, and would otherwise take that of OpenAI from the environment.
NO_KEY = "none"
# Strings that come in pieces; of any other the last one counts.
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


class OpenAIChat:
    """Asks by Chat Completions.

    Args:
        name: in the server's settings.
        base_url: up to /chat/completions, which is added.
        api_key: None = the server asks for none.
        silence_timeout_s: how long not a byte may come.
        retries: after the first attempt.

    Raises: ModuleNotFoundError where the SDK is not installed.
    """

    format: Format.ValueType = FORMAT_OPENAI

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        silence_timeout_s: float,
        retries: int,
    ) -> None:
        import httpx2
        import openai

        self.name = name
        self._sdk = openai
        self._key = api_key
        self._silence_timeout_s = silence_timeout_s
        self._retries = retries
        self._knows_stream_options = True
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or NO_KEY,
            max_retries=0,
            timeout=httpx2.Timeout(
                silence_timeout_s, connect=min(CONNECT_TIMEOUT_S, silence_timeout_s)
            ),
        )

    async def ask(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See Provider."""
        asked = ProviderCall(self.name, request.model, self._silence_timeout_s, self._key)
        with asked.translated(self._sdk):
            messages = await with_assets(
                lambda assets: for_openai(request.messages, assets, request.system_prompt),
                request.load_asset,
            )
        body = {**request.options, "model": request.model, "messages": messages, "stream": True}
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
        answer = ChatAnswer(asked)
        stream = await self._open(asked, body)
        try:
            with asked.translated(self._sdk):
                while True:
                    try:
                        chunk = await anext(stream)
                    except StopAsyncIteration:
                        break
                    except self._sdk.APIConnectionError:
                        # A break after the last words, before the usage or [DONE], costs nothing but these.
                        if answer.stop_reason:
                            break
                        raise
                    for delta in answer.take(chunk):
                        yield delta
        finally:
            await stream.close()
        yield answer.whole(
            is_event_stream="text/event-stream" in stream.response.headers.get("content-type", "")
        )

    async def _open(
        self, asked: ProviderCall, body: dict[str, Any]
    ) -> "openai.AsyncStream[object]":
        """Send the request; without stream_options where the server does not know them."""
        if self._knows_stream_options:
            # With usage, unless the caller has options of his own.
            try:
                return await self._post(asked, {"stream_options": {"include_usage": True}} | body)
            except ProviderFault as fault:
                if (
                    fault.reason != "MODEL_REQUEST_REJECTED"
                    or "stream_options" not in fault.message
                    or "stream_options" in body
                ):
                    raise
                self._knows_stream_options = False
        return await self._post(asked, body)

    async def _post(
        self, asked: ProviderCall, body: dict[str, Any]
    ) -> "openai.AsyncStream[object]":
        # Not chat.completions.create(): that takes no options but those that it knows, and makes models of what is kept as it comes.
        # Named, the security keeps the SDK from sending an admin key of the environment.
        with asked.translated(self._sdk):
            try:
                return await self._send(body)
            except UnicodeEncodeError:
                return await self._send(replace_surrogates(body))

    async def _send(self, body: dict[str, Any]) -> "openai.AsyncStream[object]":
        return await self._client.post(
            "/chat/completions",
            body=body,
            cast_to=object,
            options={"security": {"bearer_auth": True}},
            stream=True,
            stream_cls=self._sdk.AsyncStream[object],
        )


class ChatAnswer:
    """An answer as it grows out of chunks. Of several choices, the first one."""

    def __init__(self, asked: ProviderCall) -> None:
        self._asked = asked
        self._message: dict[str, Any] = {}
        self._model = ""
        self._usage: Usage | None = None
        self.stop_reason = ""
        self._has_chunks = False

    def take(self, chunk: Any) -> Iterator[Delta]:
        """Add a chunk. Raises: ProviderFault MODEL_ANSWER_INVALID where it is not one."""
        try:
            self._has_chunks = True
            self._model = chunk.get("model") or self._model
            if usage := chunk.get("usage"):
                self._usage = _usage(usage)
            for choice in chunk.get("choices") or ():
                if choice.get("index"):
                    continue
                self.stop_reason = choice.get("finish_reason") or self.stop_reason
                delta = choice.get("delta") or {}
                _merge(self._message, delta)
                # Some servers send the same under both names.
                if thought := next((delta[key] for key in _REASONING if delta.get(key)), None):
                    yield Delta(_text(thought), is_reasoning=True)
                if text := delta.get("content") or delta.get("refusal"):
                    yield Delta(_text(text))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._asked.invalid("sent a chunk that is not of the protocol") from None

    def whole(self, *, is_event_stream: bool = True) -> Answer:
        """The answer. Raises: ProviderFault where the stream ended too early, or with nothing that could be stored."""
        if not self._has_chunks and not is_event_stream:
            raise self._asked.invalid("did not answer with a stream of events")
        if not self.stop_reason:
            raise self._asked.broken_off()
        content = self._message.pop("content", None)
        calls = self._message.pop("tool_calls", None) or []
        if not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            raise self._asked.invalid("sent calls of tools that are not of the protocol")
        calls = [{key: value for key, value in call.items() if key != "index"} for call in calls]
        rest = {
            key: value
            for key, value in self._message.items()
            if key != "role" and value not in (None, "", [])
        }
        if not (content or calls or rest.keys() - set(_REASONING) - {"reasoning_details"}):
            raise self._asked.invalid(f"ended its answer without any content ({self.stop_reason})")
        message = {"role": "assistant", "content": content or None, **rest} | (
            {"tool_calls": calls} if calls else {}
        )
        try:
            return Answer(
                json=dumps(message),
                model=self._model,
                stop_reason=self.stop_reason,
                usage=self._usage,
            )
        except ValueError:
            raise self._asked.invalid("sent what cannot be stored as JSON") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _merge(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add a delta to what came before. Raises: TypeError, AttributeError for what does not fit."""
    for key, value in delta.items():
        before = whole.get(key)
        if value is None:
            whole.setdefault(key, None)
        elif before is None:
            whole[key] = _begun(key, value)
        elif isinstance(value, str):
            # A name or an id that is sent again, or empty, says nothing new.
            whole[key] = before + value if key in _GROWING else before or value
        elif isinstance(value, dict):
            _merge(before, value)
        elif isinstance(value, list):
            _merge_list(key, before, value)
        else:
            whole[key] = value


def _begun(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        begun: dict[str, Any] = {}
        _merge(begun, value)
        return begun
    if isinstance(value, list):
        items: list[Any] = []
        _merge_list(key, items, value)
        return items
    return value


def _merge_list(key: str, items: list[Any], delta: list[Any]) -> None:
    """Items grow by their index. Some servers give all calls the same index, or none: then a new id is a new call."""
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
            items.append(_begun(key, item))


def _usage(usage: object) -> Usage:
    return Usage(
        input_tokens=count_of(usage, "prompt_tokens"),
        output_tokens=count_of(usage, "completion_tokens"),
        cached_input_tokens=count_of(usage, "prompt_tokens_details", "cached_tokens"),
        reasoning_tokens=count_of(usage, "completion_tokens_details", "reasoning_tokens"),
    )
