"""The dialects under test: how each makes its requests, and the strict API that checks them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_USER,
    Message,
)
from sessiond_server.dialects import anthropic, gemini, openai_chat, openai_responses
from sessiond_server.dialects.openai_chat_parts import ChatDialect
from sessiond_server.dialects.request import FittedRequest, History
from sessiond_server.formats.pieces import is_nonmessage_item
from sessiond_server.formats.wire import AssetString, encode

from ..support.strict_models.anthropic_messages import validate_anthropic
from ..support.strict_models.gemini import validate_gemini
from ..support.strict_models.openai_chat import (
    validate_deepseek,
    validate_groq,
    validate_openai_chat,
)
from ..support.strict_models.openai_responses import validate_openai_responses
from ..support.strict_models.sdk_types import validate_against_sdk
from .histories import ASSETS, PNG

JSON = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """A dialect under test.

    Attributes:
        fit: makes the request.
        validate: refuses the requests that the API refuses.
        api: the name by which the stand-in knows the API.
        is_own: whether a message is in the API's own format.
        key: the request's key for its messages.
        options: the other keys that the API requires.
    """

    fit: Callable[[History], FittedRequest]
    validate: Callable[[JSON], None]
    api: Any
    is_own: Callable[[Message], bool]
    key: str = "messages"
    options: Mapping[str, Any] = field(default_factory=dict)

    def send(
        self, messages: Sequence[Message], options: Mapping[str, Any] | None = None
    ) -> tuple[FittedRequest, JSON]:
        """Make a request, and let the API check it.

        Returns:
            The request, and its body as the API receives it.

        Raises:
            Refusal: if the API refuses it.
        """
        request, body = self.make(messages, options)
        self.validate(body)
        assert not validate_against_sdk(self.api, body)
        return request, body

    def make(
        self, messages: Sequence[Message], options: Mapping[str, Any] | None = None
    ) -> tuple[FittedRequest, JSON]:
        """Make a request without a check."""
        all_options = {**self.options, **(options or {})}
        request = self.fit(History(messages, "Be kind.", all_options, ASSETS))
        named = {} if self.api == "gemini" else {"model": "m"}
        pieces = [
            piece if isinstance(piece, bytes) else content_of(piece)
            for piece in encode(named | request.body).pieces
        ]
        body = json.loads(b"".join(pieces))
        assert isinstance(body, dict)
        assert len(request.seqs) == len(body[self.key])
        return request, body


def content_of(asset: AssetString) -> bytes:
    """Return the content of an asset as it is encoded in a JSON string."""
    return b"a text" if asset.is_text else PNG.encode()


def _is_chat(message: Message) -> bool:
    return message.format == FORMAT_OPENAI and not _is_item(message)


def _is_item(message: Message) -> bool:
    if message.format != FORMAT_OPENAI:
        return False
    value = json.loads(message.json)
    return is_nonmessage_item(value) or value.get("type") == "message"


def _is_none(message: Message) -> bool:
    del message
    return False


def _is_anthropic(message: Message) -> bool:
    return message.format == FORMAT_ANTHROPIC and message.role in (ROLE_USER, ROLE_ASSISTANT)


def _is_gemini(message: Message) -> bool:
    return message.format == FORMAT_GEMINI and message.role != ROLE_SYSTEM


_GROQ = ChatDialect(is_openai=False)
_DEEPSEEK = ChatDialect(is_openai=False, reasoning_key="reasoning_content", files=False)
DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(openai_chat.fit, validate_openai_chat, "openai", _is_chat),
    "groq": Dialect(lambda h: openai_chat.fit(h, _GROQ), validate_groq, "groq", _is_none),
    "deepseek": Dialect(
        lambda h: openai_chat.fit(h, _DEEPSEEK), validate_deepseek, "deepseek", _is_none
    ),
    "responses": Dialect(
        openai_responses.fit, validate_openai_responses, "responses", _is_item, "input"
    ),
    "anthropic": Dialect(
        anthropic.fit,
        validate_anthropic,
        "anthropic",
        _is_anthropic,
        options={"max_tokens": 100},
    ),
    "gemini": Dialect(gemini.fit, validate_gemini, "gemini", _is_gemini, "contents"),
}
