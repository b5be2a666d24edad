"""The common part of the providers that call an HTTP API through the vendor's SDK."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from sessiond.v1.message_pb2 import Format
from sessiond_server.providers.base import Answer, Delta, ModelRequest
from sessiond_server.providers.errors import ProviderCall, ProviderFault
from sessiond_server.providers.files import AssetContents, with_assets
from sessiond_server.providers.json_text import replace_surrogates
from sessiond_server.providers.retries import with_retries

CONNECT_TIMEOUT_S = 10.0
# Sent to servers that need no key: without one, the SDKs would use a key from the environment or
# from a profile on disk.
NO_KEY = "none"


class AnswerBuilder(ABC):
    """Builds an answer from the events of a stream.

    Attributes:
        stop_reason: as the provider spells it. "" = not given yet.
        is_complete: whether an answer can be built.
        is_last: whether the last event ends the stream: nothing more is read.
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
            ProviderFault: MODEL_ANSWER_INVALID if it does not follow the protocol.
        """
        self._has_events = True
        try:
            yield from self._add(event)
        except (AttributeError, KeyError, TypeError, ValueError):
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


class SdkProvider(ABC):
    """Streams answers through an SDK. The SDKs of OpenAI and Anthropic are alike.

    Args:
        name: the provider's name in the server's settings.
        base_url: the URL to which the API's own path is added.
        api_key: None = the server needs none.
        silence_timeout_s: seconds for which the server may send nothing.
        retries: attempts after the first.

    Raises:
        ModuleNotFoundError: if the SDK is not installed.
    """

    format: Format.ValueType
    _builder: type[AnswerBuilder]

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
        self._sdk, client_class = self._import_sdk()
        self._client = client_class(
            base_url=base_url,
            api_key=api_key or NO_KEY,
            max_retries=0,
            timeout=httpx2.Timeout(
                silence_timeout_s, connect=min(CONNECT_TIMEOUT_S, silence_timeout_s)
            ),
        )

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See Provider."""
        call = ProviderCall(self.name, request.model, self._silence_timeout_s, self._key)
        with call.translated(self._sdk):
            body = await with_assets(
                lambda assets: self._make_body(request, assets), request.load_asset
            )
        async with aclosing(
            with_retries(lambda: self._attempt(call, body), retries=self._retries)
        ) as pieces:
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        """See Provider."""
        await self._client.close()

    @staticmethod
    @abstractmethod
    def _import_sdk() -> tuple[Any, Any]:
        """Import the SDK. An import takes up to a second, so only providers in use do it.

        Returns:
            The module and its client class.
        """

    @abstractmethod
    def _make_body(self, request: ModelRequest, assets: AssetContents) -> dict[str, Any]: ...

    @abstractmethod
    async def _post(self, body: dict[str, Any]) -> Any:
        """Send the request.

        Returns:
            The SDK's AsyncStream of JSON objects.
        """

    async def _attempt(
        self, call: ProviderCall, body: dict[str, Any]
    ) -> AsyncGenerator[Delta | Answer, None]:
        answer = self._builder(call)
        stream = await self._open(call, body)
        try:
            with call.translated(self._sdk):
                while not answer.is_last:
                    try:
                        event = await anext(stream)
                    except StopAsyncIteration:
                        break
                    except self._sdk.APIConnectionError:
                        # A break after the last words costs only the usage that would follow.
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

    async def _open(self, call: ProviderCall, body: dict[str, Any]) -> Any:
        with call.translated(self._sdk):
            try:
                return await self._post(body)
            except UnicodeEncodeError:
                return await self._post(replace_surrogates(body))
