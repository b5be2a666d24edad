"""The common part of the providers that call an HTTP API."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

from orjson import JSONEncodeError

from sessiond.v1.message_pb2 import Format, Message
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.pieces import JSON
from sessiond_server.formats.report import Report, UnsendableHistory
from sessiond_server.formats.wire import AssetInfo, AssetString
from sessiond_server.providers.base import (
    Answer,
    Delta,
    ModelRequest,
    Preview,
    RequestTooLarge,
)
from sessiond_server.providers.body import AssetChanged, RequestBody, encode_body, encode_messages
from sessiond_server.providers.errors import ProviderCall, ProviderFault
from sessiond_server.providers.references import asset_ids_of
from sessiond_server.providers.rejections import explain_unsendable
from sessiond_server.providers.retries import with_retries
from sessiond_server.telemetry import tracing

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
# Above this size or number of stored messages, the request is prepared in a thread. Preparing a
# message takes about 50 microseconds, whatever its size, and would block the event loop.
THREAD_BYTES = 256 * 1024
THREAD_MESSAGES = 32


# Matches the messages of providers that refuse reasoning because they cannot verify it. That
# happens if the reasoning was made with another account's key, in another region or by another
# model, or if the items that belong to the reasoning are not in the history.
_UNVERIFIED = re.compile(
    r"encrypted.content|signature|redacted_thinking|thinking.? blocks?\b.*cannot be modified"
    r"|without its required .*(item|reasoning)",
    re.IGNORECASE | re.DOTALL,
)


class AnswerBuilder(ABC):
    """Builds an answer from the events of a stream.

    Attributes:
        stop_reason: in the provider's spelling. "" = not given yet.
        is_complete: whether an answer can be built.
        is_last: whether the last event added ends the stream, so that nothing more is read.
    """

    def __init__(self, call: ProviderCall) -> None:
        self.stop_reason = ""
        self.is_complete = False
        self.is_last = False
        self._call = call
        self._model = ""
        self._has_events = False

    def add(self, event: Any) -> Iterator[Delta]:
        """Add an event.

        Yields:
            The deltas in it.

        Raises:
            ProviderFault: MODEL_ANSWER_INVALID if the event does not follow the protocol.
        """
        self._has_events = True
        try:
            yield from self._add(event)
        except (LookupError, AttributeError, TypeError, ValueError):
            raise self._call.invalid("sent an event that does not follow the protocol") from None

    def build(self, *, is_event_stream: bool = True) -> Answer:
        """Build the answer.

        Raises:
            ProviderFault: MODEL_UNAVAILABLE if the stream ended too early; MODEL_ANSWER_INVALID if
                the answer cannot be stored.
        """
        if not self._has_events and not is_event_stream:
            raise self._call.invalid("did not answer with a stream of events")
        if not self.is_complete:
            raise self._call.interrupted()
        return self._build()

    @abstractmethod
    def _add(self, event: Any) -> Iterator[Delta]: ...

    @abstractmethod
    def _build(self) -> Answer: ...

    def _empty(self) -> ProviderFault:
        return self._call.invalid(f"ended its answer without any content ({self.stop_reason})")


class ApiProvider(ABC):
    """Streams answers of an HTTP API.

    Args:
        name: the provider's name in the server's settings.
        base_url: the URL to which the API's own path is added.
        api_key: the provider's key. None = the server needs none.
        silence_timeout_s: maximum time without data from the server, in seconds.
        retries: maximum number of attempts after the first.

    Raises:
        ModuleNotFoundError: if the SDK is not installed.
    """

    format: Format.ValueType
    _builder: type[AnswerBuilder]
    # The field of the request that holds the messages.
    _messages_key = "messages"
    # Fields that the caller's options override.
    _defaults: Mapping[str, Any] = MappingProxyType({})
    # A field with its default value, which some servers and models refuse, and a pattern that
    # matches the text of their refusal. After a model has refused the field, requests to that model
    # omit it.
    _optional: tuple[str, Any, str] | None = None

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

        self.name = name
        self._key = api_key
        self._silence_timeout_s = silence_timeout_s
        self._retries = retries
        self._without_optional: set[str] = set()
        timeout = httpx2.Timeout(
            silence_timeout_s, connect=min(CONNECT_TIMEOUT_S, silence_timeout_s)
        )
        self._sdk = self._connect(base_url, timeout)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See Provider."""
        prepared = await self._prepared(request)
        request.on_report(prepared.report)
        has_streamed = False
        try:
            async with aclosing(self._pieces(prepared)) as pieces:
                async for piece in pieces:
                    has_streamed = True
                    yield piece
        except ProviderFault as fault:
            is_unverified = _UNVERIFIED.search(fault.message) is not None
            if has_streamed or fault.reason != "MODEL_REQUEST_REJECTED" or not is_unverified:
                raise
            # Without a second attempt, every later turn of the session would be refused as well.
            again = await self._prepared(request, omits_signed=True)
            if [*again.report] == [*prepared.report]:
                raise
        else:
            return
        request.on_report(again.report)
        async with aclosing(self._pieces(again)) as pieces:
            async for piece in pieces:
                yield piece

    def _pieces(self, prepared: "_Prepared") -> AsyncGenerator[Delta | Answer, None]:
        return with_retries(lambda: self._attempt(prepared), retries=self._retries)

    async def preview(self, request: ModelRequest) -> Preview:
        """See Provider."""
        prepared = await self._prepared(request)
        optional, model = self._optional, request.model
        is_extra = optional and optional[0] not in prepared.fields
        extra = {optional[0]: optional[1]} if optional and is_extra else {}
        if model in self._without_optional:
            extra = {}
        fields = {**extra, **prepared.fields, **self._fixed(model)}
        body = prepared.body(self._messages_key, fields)
        prepared.check_size(body)
        return Preview(body.with_notes(), body.size_bytes, prepared.report)

    async def _prepared(self, request: ModelRequest, *, omits_signed: bool = False) -> "_Prepared":
        call = ProviderCall(self.name, request.model, self._silence_timeout_s, self._key)
        size = sum(map(Message.ByteSize, request.messages))
        is_large = size > THREAD_BYTES or len(request.messages) > THREAD_MESSAGES
        run = asyncio.to_thread if is_large else _run_here
        ids = await run(asset_ids_of, request.messages)
        assets = await request.describe_assets(ids) if ids else {}
        return await run(self._prepare, call, request, assets, omits_signed)

    @abstractmethod
    async def close(self) -> None:
        """See Provider."""

    @abstractmethod
    def _connect(self, base_url: str, timeout: Any) -> Any:
        """Create the client.

        Args:
            base_url: the URL to which the API's own path is added.
            timeout: an httpx2.Timeout.

        Returns:
            An object with the exceptions that ProviderCall.translated() needs.
        """

    @abstractmethod
    def _fit(self, history: History) -> FittedRequest: ...

    @abstractmethod
    async def _post(
        self, call: ProviderCall, content: bytes | RequestBody, headers: Mapping[str, str]
    ) -> Any:
        """Send the request.

        Returns:
            An SDK's AsyncStream of JSON objects, or a similar object.

        Raises:
            ProviderFault: if the API rejects the request.
        """

    def _fixed(self, model: str) -> JSON:
        """Return the fields that the caller's options do not override."""
        return {"model": model, "stream": True}

    def _prepare(
        self,
        call: ProviderCall,
        request: ModelRequest,
        assets: Mapping[str, AssetInfo],
        omits_signed: bool,
    ) -> "_Prepared":
        """Create the request. This may take a while for a long history."""
        options = {**self._defaults, **request.options}
        history = History(request.messages, request.system_prompt, options, assets, omits_signed)
        try:
            fitted = self._fit(history)
            messages = encode_messages(fitted.body[self._messages_key])
        except UnsendableHistory as e:
            raise call.fault(
                "MODEL_REQUEST_REJECTED",
                f"cannot continue the session: {explain_unsendable(e)}",
                seqs=",".join(map(str, e.seqs)),
            ) from None
        except (RecursionError, JSONEncodeError):
            raise call.fault(
                "MODEL_REQUEST_REJECTED",
                "cannot receive the history: a message is nested too deeply",
            ) from None
        fields = {key: value for key, value in fitted.body.items() if key != self._messages_key}
        # Do not keep the parsed messages in memory while the model answers.
        call = replace(call, fitted=replace(fitted, body={}))
        return _Prepared(call, request, assets, fields, messages)

    async def _attempt(self, prepared: "_Prepared") -> AsyncGenerator[Delta | Answer, None]:
        call = prepared.call
        answer = self._builder(call)
        stream = await self._open(prepared)
        try:
            with call.translated(self._sdk):
                while not answer.is_last:
                    try:
                        event = await anext(stream)
                    except StopAsyncIteration:
                        break
                    except self._sdk.APIConnectionError:
                        # If the stream breaks after the complete answer, only the final usage is
                        # lost.
                        if answer.is_complete:
                            break
                        raise
                    for delta in answer.add(event):
                        yield delta
        finally:
            await stream.close()
        yield answer.build(
            is_event_stream="text/event-stream" in stream.response.headers.get("content-type", "")
        )

    async def _open(self, prepared: "_Prepared") -> Any:
        """Send the request. If the server refuses the optional field, repeat without the field."""
        optional, model = self._optional, prepared.call.model
        if optional is None or optional[0] in prepared.fields or model in self._without_optional:
            return await self._send(prepared, {})
        field, value, pattern = optional
        try:
            return await self._send(prepared, {field: value})
        except ProviderFault as fault:
            if fault.reason != "MODEL_REQUEST_REJECTED" or not re.search(pattern, fault.message):
                raise
        stream = await self._send(prepared, {})
        self._without_optional.add(model)
        return stream

    async def _send(self, prepared: "_Prepared", extra: JSON) -> Any:
        call = prepared.call
        fields = {**extra, **prepared.fields, **self._fixed(call.model)}
        body = prepared.body(self._messages_key, fields)
        prepared.check_size(body)
        try:
            if await body.load_texts():
                prepared.check_size(body)
            headers = {
                **tracing.headers(),
                "Content-Type": "application/json",
                "Content-Length": str(body.size_bytes),
            }
            with call.translated(self._sdk):
                try:
                    return await self._post(call, body.content, headers)
                except Exception:
                    if body.error:
                        raise body.error from None
                    raise
        except AssetChanged as e:
            raise call.fault(
                "MODEL_REQUEST_REJECTED",
                f"is not called: the content of asset {e.asset_id} is incomplete; upload it again",
            ) from None


async def _run_here(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that is ready to be sent.

    Attributes:
        call: the call, including the fitted request.
        request: the request of the turn.
        assets: the properties of the assets.
        fields: the fields of the body, without the messages.
        messages: the encoded messages.
    """

    call: ProviderCall
    request: ModelRequest
    assets: Mapping[str, AssetInfo]
    fields: JSON
    messages: Sequence[bytes | AssetString]

    @property
    def report(self) -> Report:
        """The differences between the request and the stored messages."""
        return self.call.fitted.report if self.call.fitted else Report()

    def body(self, key: str, fields: JSON) -> RequestBody:
        try:
            pieces = encode_body(fields, key, self.messages)
        except (TypeError, ValueError):
            raise self.call.fault(
                "MODEL_REQUEST_REJECTED", "cannot receive the options: they are not JSON"
            ) from None
        return RequestBody(pieces, self.assets, self.request.load_asset)

    def check_size(self, body: RequestBody) -> None:
        """Check the size of the request.

        Raises:
            RequestTooLarge: if the request is too large.
        """
        size, limit = body.size_bytes, self.request.max_request_bytes
        if not limit or size <= limit:
            return
        asset_bytes = body.asset_bytes
        fault = self._too_large(
            f"{size} bytes, {asset_bytes} of them the content of assets (attachments)", size
        )
        repeated = None
        if asset_bytes > limit:
            repeated = self._too_large(
                f"more than {asset_bytes} bytes, which is the content of its assets (attachments)",
                asset_bytes,
            )
        fitted = self.call.fitted
        raise RequestTooLarge(fault, len(fitted.seqs) if fitted else 0, repeated)

    def _too_large(self, size: str, context_bytes: int) -> ProviderFault:
        limit = self.request.max_request_bytes
        return self.call.fault(
            "CONTEXT_TOO_LARGE",
            f"is not called: the request has {size}, and this server sends at most {limit} "
            "(max_model_request_bytes): send fewer attachments, shorten the history by "
            "config.context.max_messages, or rewind the session",
            context_bytes=context_bytes,
            max_bytes=limit,
        )
