"""Google's Gemini API.

The requests are not sent through Google's SDK. Its public methods accept only the fields that they
know. They also convert contents to Pydantic objects, but contents must be sent and stored
unchanged.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import orjson

from sessiond.v1.message_pb2 import FORMAT_GEMINI
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.dialects.gemini import fit
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.parsing import parse
from sessiond_server.formats.pieces import JSON
from sessiond_server.providers import tls
from sessiond_server.providers.api import AnswerBuilder, ApiProvider
from sessiond_server.providers.base import Answer, Delta
from sessiond_server.providers.body import RequestBody
from sessiond_server.providers.errors import ProviderCall, count_of
from sessiond_server.providers.json_text import dumps, is_deep, require_text

MAX_ERROR_BYTES = 64 * 1024


class GeminiAnswerBuilder(AnswerBuilder):
    """Builds a content from the chunks of the API. Only the first of several candidates counts."""

    def __init__(self, call: ProviderCall) -> None:
        super().__init__(call)
        self._parts: list[JSON] = []
        self._usage: Usage | None = None

    def _add(self, event: Any) -> Iterator[Delta]:
        if event.get("error"):
            raise self._call.stream_fault(event)
        self._model = event.get("modelVersion") or self._model
        if usage := event.get("usageMetadata"):
            self._usage = _usage(usage)
        if reason := (event.get("promptFeedback") or {}).get("blockReason"):
            raise self._call.rejected(f"blocked the prompt ({require_text(reason)})")
        for candidate in event.get("candidates") or ():
            if candidate.get("index"):
                continue
            self.stop_reason = candidate.get("finishReason") or self.stop_reason
            self.is_complete = bool(self.stop_reason)
            for part in (candidate.get("content") or {}).get("parts") or ():
                self._append(dict(part))
                if text := part.get("text"):
                    yield Delta(require_text(text), is_reasoning=part.get("thought") is True)

    def _append(self, part: JSON) -> None:
        """Add a part. Join it to the last part if both are plain texts of the same kind."""
        last = self._parts[-1] if self._parts else {}
        is_text = part.keys() - {"thought"} == last.keys() - {"thought"} == {"text"}
        if is_text and part.get("thought") == last.get("thought"):
            last["text"] += require_text(part["text"])
        elif part.keys() - {"thought"} != {"text"} or part["text"]:
            self._parts.append(part)

    def _build(self) -> Answer:
        # If the arguments of a call are nested too deeply, they are kept as text.
        for part in self._parts:
            call = part.get("functionCall")
            if isinstance(call, dict) and is_deep(call.get("args")):
                text = json.dumps(call["args"], ensure_ascii=False)
                part["functionCall"] = {**call, "args": {"arguments": text}}
        if all(part.get("thought") is True or part.get("text") == "" for part in self._parts):
            raise self._empty()
        try:
            text = dumps({"role": "model", "parts": self._parts})
        except ValueError:
            raise self._call.invalid("sent an answer that cannot be stored as JSON") from None
        return Answer([text], self._model, self.stop_reason, self._usage)


class Gemini(ApiProvider):
    """Calls streamGenerateContent. base_url does not include /v1beta.

    The option generationConfig holds temperature, maxOutputTokens and the like.
    """

    format = FORMAT_GEMINI
    _builder = GeminiAnswerBuilder
    _messages_key = "contents"

    async def close(self) -> None:
        """See Provider."""
        await self._client.aclose()

    def _connect(self, base_url: str, timeout: Any) -> Any:
        import httpx2

        self._base_url = base_url.rstrip("/")
        headers = {"x-goog-api-key": self._key} if self._key else {}
        self._client = httpx2.AsyncClient(timeout=timeout, headers=headers, verify=tls.context())
        return SimpleNamespace(
            APITimeoutError=httpx2.TimeoutException,
            APIConnectionError=httpx2.RequestError,
            APIStatusError=_Never,
            APIError=_Never,
        )

    def _fit(self, history: History) -> FittedRequest:
        return fit(history)

    def _fixed(self, model: str) -> JSON:
        return {}

    async def _post(
        self, call: ProviderCall, content: bytes | RequestBody, headers: Mapping[str, str]
    ) -> "_Stream":
        kind, _, _ = call.model.rpartition("/")
        # The name may also be the name of a tuned model, but not of another resource of the API.
        path = call.model if kind in ("models", "tunedModels") else f"models/{call.model}"
        path = "/".join(quote(part, safe="") for part in path.split("/", 1))
        url = f"{self._base_url}/v1beta/{path}:streamGenerateContent?alt=sse"
        request = self._client.build_request("POST", url, content=content, headers=headers)
        response = await self._client.send(request, stream=True)
        if response.status_code == 200:
            return _Stream(response)
        try:
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_ERROR_BYTES:
                    break
        finally:
            await response.aclose()
        raise call.status_fault(response.status_code, _error_body(body), response.headers)


class _Never(Exception):
    """An exception that is never raised."""


class _Stream:
    """The JSON objects of a stream of server-sent events.

    Attributes:
        response: an httpx2.Response.
    """

    def __init__(self, response: Any) -> None:
        self.response = response
        self._events = self._read()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._events)

    async def close(self) -> None:
        await self._events.aclose()
        await self.response.aclose()

    async def _read(self) -> AsyncGenerator[Any, None]:
        # aiter_lines() would also split at U+2028 and similar characters, which JSON may contain.
        rest = bytearray()
        data: list[bytes] = []
        async for chunk in self.response.aiter_bytes():
            *lines, end = (rest + chunk).split(b"\n")
            rest = bytearray(end)
            for line in map(bytes.rstrip, map(bytes, lines)):
                if line.startswith(b"data:"):
                    data.append(line[5:])
                elif not line and data:
                    yield parse(b"\n".join(data).decode())
                    data.clear()
        if data:
            yield parse(b"\n".join(data).decode())


def _error_body(body: bytes) -> object:
    """Parse the body of an error. The API sends an object, or a list with one object."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
    return value[0] if isinstance(value, list) and value else value


def _usage(usage: object) -> Usage:
    thoughts = count_of(usage, "thoughtsTokenCount")
    return Usage(
        input_tokens=count_of(usage, "promptTokenCount")
        + count_of(usage, "toolUsePromptTokenCount"),
        output_tokens=count_of(usage, "candidatesTokenCount") + thoughts,
        cached_input_tokens=count_of(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
