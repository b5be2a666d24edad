"""The common part of the providers that use OpenAI's or Anthropic's SDK, which are alike."""

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sessiond.v1.message_pb2 import FORMAT_OPENAI
from sessiond_server.providers import tls
from sessiond_server.providers.api import ApiProvider
from sessiond_server.providers.body import RequestBody
from sessiond_server.providers.errors import ProviderCall

# The key sent to servers that need none. Without a key, the SDKs would use one from the environment
# or from a profile on disk.
NO_KEY = "none"


class SdkProvider(ApiProvider):
    """Streams answers through an SDK."""

    _path: str
    _request_options: Mapping[str, Any] = MappingProxyType({})

    async def close(self) -> None:
        """See Provider."""
        await self._client.close()

    @staticmethod
    @abstractmethod
    def _import_sdk() -> tuple[Any, Any]:
        """Import the SDK. This takes up to a second, so only providers in use do it.

        Returns:
            The module and its client class.
        """

    def _connect(self, base_url: str, timeout: Any) -> Any:
        sdk, client_class = self._import_sdk()
        self._client = client_class(
            base_url=base_url,
            api_key=self._key or NO_KEY,
            max_retries=0,
            timeout=timeout,
            http_client=sdk.DefaultAsyncHttpxClient(
                base_url=base_url, timeout=timeout, verify=tls.context()
            ),
        )
        return sdk

    async def _post(
        self, call: ProviderCall, content: bytes | RequestBody, headers: Mapping[str, str]
    ) -> Any:
        # The SDK's own method for the API accepts only the options that it knows. It also converts
        # JSON to Pydantic objects, but the JSON must be sent and stored unchanged.
        return await self._client.post(
            self._path,
            content=content,
            cast_to=object,
            options={**self._request_options, "headers": headers},
            stream=True,
            stream_cls=self._sdk.AsyncStream[object],
        )


class OpenAIProvider(SdkProvider):
    """Calls an API of OpenAI, or a compatible API."""

    format = FORMAT_OPENAI
    # Setting `security` keeps the SDK from sending an admin key from the environment.
    _request_options = MappingProxyType({"security": {"bearer_auth": True}})

    @staticmethod
    def _import_sdk() -> tuple[Any, Any]:
        import openai

        return openai, openai.AsyncOpenAI
