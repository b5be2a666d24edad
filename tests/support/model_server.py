"""A scripted model API: Chat Completions, Responses, Messages and Gemini."""

import json
import select
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from .waiting import PATIENCE_S

JSON = dict[str, Any]
PIECE = 7


@dataclass(frozen=True)
class Received:
    """A received request. headers: names in lower case. content: the bytes of the body."""

    path: str
    headers: Mapping[str, str]
    body: JSON
    content: bytes = b""


@dataclass(frozen=True)
class Reply:
    """The reply to one request, in the protocol of the request.

    Args:
        text: the answer, streamed with one word in each event.
        thinking, signature: the thinking before the answer, and its signature.
        tool_calls: (id, name, arguments as JSON text), streamed in pieces of 7 characters.
        usage: (input, output) tokens. None = the reply has no usage.
        stop_reason: "" = the provider's usual reason.
        status, body, headers: an HTTP error instead of a stream, where status is not 200.
        events: the JSON of the stream's events. Default: made of the fields above.
        after: how many events to send before `then`. None = all. -1 = not even the headers.
        then: what follows these events.
            "go on": the other events, and a regular end.
            "hold": nothing, until ModelServer.release() or until the client leaves; then the other
            events. "cut": the connection is cut. "stop": the stream ends early, but correctly in
            terms of HTTP. "garbage": an event that is no JSON. "error": the event `error`.
        error: an error in the stream, such as {"type": "overloaded_error", "message": "..."}.
    """

    text: str = ""
    thinking: str = ""
    signature: str = "c2lnbmVk"
    tool_calls: Sequence[tuple[str, str, str]] = ()
    usage: tuple[int, int] | None = (12, 5)
    stop_reason: str = ""
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Sequence[JSON] | None = None
    after: int | None = None
    then: Literal["go on", "hold", "cut", "stop", "garbage", "error"] = "go on"
    error: JSON = field(default_factory=dict)


def fails(
    status: int,
    message: str = "It failed.",
    *,
    headers: Mapping[str, str] | None = None,
    **error: object,
) -> Reply:
    """Return an HTTP error in a form that OpenAI's and Anthropic's clients understand."""
    return Reply(
        status=status,
        body={"type": "error", "error": {"message": message, **error}},
        headers=headers or {},
    )


HELLO = Reply("Hello from the model server.")


class ModelServer:
    """Listens on a port of 127.0.0.1.

    It runs in its own threads, so it can serve the test's event loop and other processes.

    Each request gets the next reply of the script, or `default` if none is left. To call it,
    sessiond needs the setting providers:
    {"fake": {"type": "openai", "base_url": server.openai_url, "models": ["fake-*"]}}, or the type
    "anthropic" and server.url.

    Attributes:
        url: the base URL for Anthropic's protocol.
        openai_url: the base URL for OpenAI's.
        requests: the requests so far, in order.
        default: the reply to requests for which the script has none.
    """

    def __init__(self, default: Reply = HELLO) -> None:
        self.default = default
        self.requests: list[Received] = []
        self._script: deque[Reply] = deque()
        self._held = threading.Semaphore(0)
        self._released = threading.Event()
        self._left = threading.Semaphore(0)
        self._ending = threading.Event()
        self._http = _Server(self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, name="model server"
        )
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.openai_url = f"{self.url}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._http.shutdown()
        self._thread.join(30)
        self._http.server_close()

    def script(self, *replies: Reply) -> None:
        """Add replies for the next requests, one each."""
        self._script.extend(replies)

    def wait_until_held(self, timeout: float = PATIENCE_S) -> bool:
        """Wait until a request reaches its "hold". Each request is counted once."""
        return self._held.acquire(timeout=timeout)

    def release(self) -> None:
        """Continue all requests that are held now or later."""
        self._released.set()

    def wait_until_left(self, timeout: float = PATIENCE_S) -> bool:
        """Wait until a client closes its connection early. Each client is counted once."""
        return self._left.acquire(timeout=timeout)

    def take(self, received: Received) -> Reply:
        """The reply for a request."""
        self.requests.append(received)
        return self._script.popleft() if self._script else self.default

    def leave(self) -> None:
        """Count a client that closed its connection."""
        self._left.release()

    def hold(self, connection: socket.socket) -> bool:
        """Wait for release().

        Returns:
            False if the server ends first.

        Raises:
            ConnectionError: if the client leaves.
        """
        self._held.release()
        while not self._released.wait(0.01) and not self._ending.is_set():
            readable, _, _ = select.select([connection], [], [], 0)
            if readable and not connection.recv(1):
                raise ConnectionError("the client left")
        return not self._ending.is_set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, owner: ModelServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the errors of clients that leave."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        # Serve one request per connection, so that threads end with their tests.
        self.close_connection = True
        try:
            self._reply()
        except ConnectionError:
            self.server.owner.leave()

    def _reply(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(content)
        reply = self.server.owner.take(Received(self.path, headers, body, content))
        if (
            reply.then == "hold"
            and reply.after == -1
            and not self.server.owner.hold(self.connection)
        ):
            return
        if reply.then == "cut" and reply.after == -1:
            return
        if reply.status != 200:
            self._fail(reply)
            return
        is_unnamed = self.path.endswith(("/chat/completions", "alt=sse"))
        events = self._events(reply, body) if reply.events is None else list(reply.events)
        self._stream(reply, events, is_unnamed)

    def _events(self, reply: Reply, body: JSON) -> list[JSON]:
        from .strict_models.signing import Signer
        from .strict_models.streams import gemini_chunks, responses_events

        number = len(self.server.owner.requests)
        if self.path.endswith("/chat/completions"):
            return openai_events(reply, body)
        if self.path.endswith("/responses"):
            return responses_events(reply, body, Signer("responses"), number)
        if self.path.endswith("alt=sse"):
            model = self.path.rpartition("/")[2].partition(":")[0]
            return gemini_chunks(reply, model, Signer("gemini"), number)
        return anthropic_events(reply, body)

    def _fail(self, reply: Reply) -> None:
        content = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        self.send_response(reply.status)
        for name, value in {
            "content-type": "application/json",
            "content-length": str(len(content)),
            # Otherwise a client would reuse the connection, which is closing, for its next request.
            "connection": "close",
            **reply.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, reply: Reply, events: list[JSON], is_unnamed: bool) -> None:
        self.send_response(200)
        headers = {
            "content-type": "text/event-stream",
            "transfer-encoding": "chunked",
            "connection": "close",
            **reply.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        after = len(events) if reply.after is None else max(reply.after, 0)
        for event in events[:after]:
            self._event(json.dumps(event), "" if is_unnamed else event["type"])
        match reply.then:
            case "cut":
                return
            case "garbage":
                self._event('{"choices": [', "" if is_unnamed else "content_block_delta")
            case "error":
                error: JSON = {"error": dict(reply.error)}
                self._event(
                    json.dumps(error if is_unnamed else {"type": "error"} | error),
                    "" if is_unnamed else "error",
                )
            case "hold" if reply.after != -1 and not self.server.owner.hold(self.connection):
                return
            case "go on" | "hold":
                for event in events[after:]:
                    self._event(json.dumps(event), "" if is_unnamed else event["type"])
                if self.path.endswith("/chat/completions"):
                    self._event("[DONE]", "")
            case _:
                pass
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str, name: str) -> None:
        text = (f"event: {name}\n" if name else "") + f"data: {data}\n\n"
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())


def words_of(text: str) -> list[str]:
    """Split a text for streaming. The words keep their blanks."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + words[-1:] if text else []


def pieces_of(text: str) -> list[str]:
    """Split the arguments of a call for streaming."""
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)]


def openai_events(reply: Reply, body: JSON) -> list[JSON]:
    """Return the chunks that stream a reply in Chat Completions."""

    def chunk(delta: JSON, finish_reason: str | None = None) -> JSON:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": body["model"],
            "choices": [choice],
        }

    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"reasoning_content": word}) for word in words_of(reply.thinking)]
    chunks += [chunk({"content": word}) for word in words_of(reply.text)]
    for index, (call_id, name, arguments) in enumerate(reply.tool_calls):
        chunks.append(
            chunk(
                {
                    "tool_calls": [
                        {
                            "index": index,
                            "id": call_id,
                            "type": "function",
                            "function": {"name": name, "arguments": ""},
                        }
                    ]
                }
            )
        )
        chunks += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            for piece in pieces_of(arguments)
        ]
    chunks.append(chunk({}, reply.stop_reason or ("tool_calls" if reply.tool_calls else "stop")))
    if reply.usage and (body.get("stream_options") or {}).get("include_usage"):
        read, written = reply.usage
        usage = {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }
        chunks.append(chunk({}) | {"choices": [], "usage": usage})
    return chunks


def anthropic_events(reply: Reply, body: JSON) -> list[JSON]:
    """Return the events that stream a reply in Messages."""
    read, written = reply.usage or (0, 0)
    message: JSON = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": body["model"],
        "stop_reason": None,
    }
    if reply.usage:
        message["usage"] = {"input_tokens": read, "output_tokens": 1}
    events: list[JSON] = [{"type": "message_start", "message": message}]
    blocks: list[tuple[JSON, list[JSON]]] = []
    if reply.thinking:
        deltas = [{"type": "thinking_delta", "thinking": word} for word in words_of(reply.thinking)]
        deltas.append({"type": "signature_delta", "signature": reply.signature})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if reply.text:
        blocks.append(
            (
                {"type": "text", "text": ""},
                [{"type": "text_delta", "text": word} for word in words_of(reply.text)],
            )
        )
    for call_id, name, arguments in reply.tool_calls:
        deltas = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in ["", *pieces_of(arguments)]
        ]
        blocks.append(({"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas))
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    stop: JSON = {
        "type": "message_delta",
        "delta": {
            "stop_reason": reply.stop_reason or ("tool_use" if reply.tool_calls else "end_turn")
        },
    }
    if reply.usage:
        stop["usage"] = {"output_tokens": written}
    return [*events, stop, {"type": "message_stop"}]
