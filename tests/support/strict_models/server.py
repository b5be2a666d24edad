"""A server of all model APIs that refuses the same requests as the real APIs."""

import asyncio
import json
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from ..model_server import HELLO, Reply, anthropic_events, openai_events
from .anthropic_messages import validate_anthropic
from .body import parse_body
from .cache import CacheUse, PromptCache
from .gemini import validate_gemini
from .openai_chat import validate_deepseek, validate_groq, validate_openai_chat
from .openai_responses import validate_openai_responses
from .refusal import JSON, Api, Refusal
from .sdk_types import sdk_is_installed, validate_against_sdk
from .signing import Signer
from .streams import gemini_chunks, responses_events

_PATHS: Mapping[str, Api] = {
    "/v1/chat/completions": "openai",
    "/groq/openai/v1/chat/completions": "groq",
    "/deepseek/chat/completions": "deepseek",
    "/v1/responses": "responses",
    "/v1/messages": "anthropic",
}
_GEMINI = re.compile(r"/v1(?:beta)?/models/([^/:]+):streamGenerateContent\?(?:.*&)?alt=sse")
_CALL_ON_DEMAND = re.compile(r"call (\S+) (\{.*\})", re.DOTALL)


@dataclass
class Exchange:
    """A request and its outcome.

    Attributes:
        api: the API that got it.
        path: path of the request.
        headers: by their names in lower case.
        body: body of the request; {} if the body is no JSON object.
        number: 1 for the server's first request.
        model: the model that it names.
        refusal: the reason of its refusal. None = it was accepted.
        differences: from the SDK's type of the request. See validate_against_sdk().
        cache: the part that a cache would hit. None if the request was refused.
    """

    api: Api
    path: str
    headers: Mapping[str, str]
    body: JSON
    number: int
    model: str = ""
    refusal: Refusal | None = None
    differences: list[str] = field(default_factory=list)
    cache: CacheUse | None = None

    @property
    def newest_text(self) -> str:
        """The text of the newest message; "" if it has none."""
        messages = self.body.get("messages") or self.body.get("input") or self.body.get("contents")
        newest = messages[-1] if isinstance(messages, list) else {"content": messages}
        content = newest.get("content") or newest.get("parts") or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        return " ".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def conversation_of(exchange: Exchange) -> str:
    """Return the key of the conversation that a request names, "" if it names none."""
    body = exchange.body
    return str(
        exchange.headers.get("x-conversation")
        or body.get("prompt_cache_key")
        or body.get("user")
        or (body.get("metadata") or {}).get("user_id")
        or ""
    )


class StrictModelServer:
    """Serves all APIs on a port of 127.0.0.1, in a thread of its own.

    Each accepted request gets the next reply of the script. If none is left, a request whose
    newest message has the form `call NAME {"its": "arguments"}` is answered with a call of that
    tool. Any other request is answered with `default`.
    The server only streams, and serves one request per connection.

    Args:
        default: the reply to a request for which there is no other.
        max_bytes: the largest body. None = the API's own limit.
        compares: whether requests are compared with the SDKs' types: see Exchange.differences.
        conversation_of: returns the conversation of a request, for the cache.

    Attributes:
        url: the base URL for Anthropic and Gemini.
        openai_url: the base URL for OpenAI.
        groq_url: the base URL of the server like Groq's.
        deepseek_url: the base URL of the server like DeepSeek's.
        exchanges: all requests in order, including refused ones.
        cache: counts what a prompt cache would hit.
        signers: make the signatures of each API.
    """

    def __init__(
        self,
        default: Reply = HELLO,
        *,
        max_bytes: int | None = None,
        compares: bool = True,
        conversation_of: Callable[[Exchange], str] = conversation_of,
    ) -> None:
        self.default = default
        self.exchanges: list[Exchange] = []
        self.cache = PromptCache()
        apis: tuple[Api, ...] = (*_PATHS.values(), "gemini")
        self.signers: dict[Api, Signer] = {api: Signer(api) for api in apis}
        self.url = self.openai_url = self.groq_url = self.deepseek_url = ""
        self._max_bytes = max_bytes
        self._compares = compares
        self._conversation_of = conversation_of
        self._script: deque[Reply] = deque()
        self._reasoning_of: dict[str, str] = {}
        self._started = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="strict model server"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._started.wait(30):
            raise TimeoutError("the strict model server did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()
        self._thread.join(30)

    def script(self, *replies: Reply) -> None:
        """Add replies for the next requests, one each."""
        self._script.extend(replies)

    @property
    def refusals(self) -> list[str]:
        """The messages of all refusals."""
        return [exchange.refusal.message for exchange in self.exchanges if exchange.refusal]

    @property
    def differences(self) -> list[str]:
        """The differences of all requests from the SDKs' types."""
        return [line for exchange in self.exchanges for line in exchange.differences]

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self.openai_url = f"{self.url}/v1"
            self.groq_url = f"{self.url}/groq/openai/v1"
            self.deepseek_url = f"{self.url}/deepseek"
            self._stop = lambda: loop.call_soon_threadsafe(stopped.set)
            self._started.set()
            await stopped.wait()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            async for piece in self._response(head[0].split(" ")[1], headers, content):
                writer.write(piece)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client left.
        finally:
            writer.close()

    async def _response(
        self, path: str, headers: Mapping[str, str], content: bytes
    ) -> AsyncIterator[bytes]:
        gemini = _GEMINI.fullmatch(path)
        api = "gemini" if gemini else _PATHS.get(path.partition("?")[0])
        if not api:
            yield _json_response(404, {"error": {"message": f"There is no {path}."}})
            return
        exchange = Exchange(api, path, headers, {}, len(self.exchanges) + 1)
        self.exchanges.append(exchange)
        try:
            exchange.body = parse_body(api, content, self._max_bytes)
            exchange.model = gemini[1] if gemini else str(exchange.body.get("model"))
            self._check(exchange)
        except Refusal as refusal:
            exchange.refusal = refusal
            yield _json_response(refusal.status, refusal.body())
            return
        reply = self._reply(exchange)
        if reply.status != 200:
            yield _json_response(reply.status, reply.body, reply.headers)
            return
        yield _head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for event in self._events(exchange, reply):
            name = event["type"] if api in ("anthropic", "responses") else ""
            yield _sse(json.dumps(event), name)
        if api in ("openai", "groq", "deepseek"):
            yield _sse("[DONE]", "")
        yield b"0\r\n\r\n"

    def _check(self, exchange: Exchange) -> None:
        """Validate a request, and count the part that a cache would hit.

        Raises:
            Refusal: if the API would refuse the request.
        """
        api, body, signatures = exchange.api, exchange.body, self.signers[exchange.api].knows
        match api:
            case "openai":
                validate_openai_chat(body)
            case "groq":
                validate_groq(body)
            case "deepseek":
                validate_deepseek(body)
            case "responses":
                validate_openai_responses(
                    body, signatures=signatures, reasoning_of=self._reasoning_of
                )
            case "anthropic":
                validate_anthropic(body, signatures=signatures)
            case "gemini":
                validate_gemini(body, model=exchange.model, signatures=signatures)
        if api != "gemini" and not body.get("stream"):
            raise Refusal(api, "This stand-in serves streams alone.", param="stream")
        if self._compares and sdk_is_installed(api):
            exchange.differences = validate_against_sdk(api, body)
        exchange.cache = self.cache.add(api, self._conversation_of(exchange), body)

    def _reply(self, exchange: Exchange) -> Reply:
        if self._script:
            return self._script.popleft()
        if demand := _CALL_ON_DEMAND.search(exchange.newest_text):
            prefix = "toolu" if exchange.api == "anthropic" else "call"
            return Reply(tool_calls=[(f"{prefix}_{exchange.number}", demand[1], demand[2])])
        return self.default

    def _events(self, exchange: Exchange, reply: Reply) -> list[JSON]:
        signer, number = self.signers[exchange.api], exchange.number
        if reply.events is not None:
            return list(reply.events)
        match exchange.api:
            case "responses":
                events = responses_events(reply, exchange.body, signer, number)
                items = events[-1]["response"]["output"]
                if reply.thinking and len(items) > 1:
                    self._reasoning_of[items[1]["id"]] = items[0]["id"]
                return events
            case "anthropic":
                signed = replace(reply, signature=signer.sign(reply.thinking))
                return anthropic_events(signed, exchange.body)
            case "gemini":
                return gemini_chunks(reply, exchange.model, signer, number)
            case _:
                return openai_events(reply, exchange.body)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    # Otherwise a client would reuse the connection, which is closing, for its next request.
    lines = [f"{name}: {value}\r\n" for name, value in {**headers, "connection": "close"}.items()]
    return f"HTTP/1.1 {status} Strict\r\n{''.join(lines)}\r\n".encode("latin-1")


def _json_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> bytes:
    content = json.dumps(body).encode()
    sizes = {"content-type": "application/json", "content-length": str(len(content))}
    return _head(status, sizes | dict(headers or {})) + content


def _sse(data: str, name: str) -> bytes:
    text = ((f"event: {name}\n" if name else "") + f"data: {data}\n\n").encode()
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"
