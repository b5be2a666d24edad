"""Makes providers of every protocol that call the model server."""

from typing import Any

from sessiond_server.providers.anthropic_messages import AnthropicMessages
from sessiond_server.providers.api import ApiProvider
from sessiond_server.providers.gemini import Gemini
from sessiond_server.providers.openai_chat import OpenAIChat
from sessiond_server.providers.openai_responses import OpenAIResponses

from ..support.model_server import ModelServer
from .asking import anthropic, gemini, openai

KEY = "sk-test-0123456789abcdef"


CALLS = [
    ("call_1", "find_order", '{"id": "12-A",  "deep": [1, 2.50, 1e3]}'),
    ("call_2", "now", "{}"),
]


CLASSES: dict[str, type[ApiProvider]] = {
    "openai": OpenAIChat,
    "openai-responses": OpenAIResponses,
    "anthropic": AnthropicMessages,
    "gemini": Gemini,
}


HISTORIES = {
    "openai": openai,
    "openai-responses": openai,
    "anthropic": anthropic,
    "gemini": gemini,
}


MESSAGES = {"openai-responses": "input", "gemini": "contents"}


class Made:
    """Makes a provider of one kind that calls the model server, and closes it."""

    def __init__(self, kind: str, server: ModelServer) -> None:
        self.kind = kind
        self.server = server
        self.made: list[ApiProvider] = []
        self.is_openai = kind.startswith("openai")

    def __call__(
        self,
        *,
        silence_timeout_s: float = 30,
        retries: int = 2,
        api_key: str | None = KEY,
        base_url: str = "",
    ) -> ApiProvider:
        provider = CLASSES[self.kind](
            self.kind,
            base_url=base_url or (self.server.openai_url if self.is_openai else self.server.url),
            api_key=api_key,
            silence_timeout_s=silence_timeout_s,
            retries=retries,
        )
        self.made.append(provider)
        return provider

    def events_of(self, words: int) -> int:
        """Return how many events a reply of `words` words has; a negative value unchanged."""
        before = self.by_kind(openai=1, openai_responses=4, anthropic=2, gemini=0)
        return int(before + words if words > 0 else words)

    def by_kind(self, **values: Any) -> Any:
        """Return the value for this kind of provider."""
        return values[self.kind.replace("-", "_")]
