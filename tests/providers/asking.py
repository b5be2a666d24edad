"""Requests of the tests to providers, and their results."""

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Format,
    Message,
)
from sessiond_server.formats.wire import AssetInfo
from sessiond_server.providers.base import (
    Answer,
    Delta,
    ModelFault,
    ModelRequest,
    Provider,
)

ROLES = {
    "system": ROLE_SYSTEM,
    "developer": ROLE_DEVELOPER,
    "user": ROLE_USER,
    "assistant": ROLE_ASSISTANT,
    "model": ROLE_ASSISTANT,
    "tool": ROLE_TOOL,
    "function": ROLE_TOOL,
}


def stored(value: dict[str, Any], message_format: Format.ValueType = FORMAT_OPENAI) -> Message:
    """Return a message as the store returns it."""
    is_output = str(value.get("type", "")).endswith("_output")
    role = ROLES[value["role"]] if "role" in value else ROLE_TOOL if is_output else ROLE_ASSISTANT
    return Message(role=role, format=message_format, json=json.dumps(value, ensure_ascii=False))


def openai(*values: dict[str, Any]) -> list[Message]:
    return [stored(value) for value in values]


def anthropic(*values: dict[str, Any]) -> list[Message]:
    return [stored(value, FORMAT_ANTHROPIC) for value in values]


def gemini(*values: dict[str, Any]) -> list[Message]:
    return [stored(value, FORMAT_GEMINI) for value in values]


def question(
    messages: Sequence[Message] | str = "Hello",
    *,
    model: str = "m",
    system_prompt: str = "",
    assets: "Shelf | None" = None,
    max_request_bytes: int = 0,
    **options: Any,
) -> ModelRequest:
    """Return a request. Its messages have the seqs 1, 2, ..."""
    history = (
        openai({"role": "user", "content": messages}) if isinstance(messages, str) else messages
    )
    for seq, message in enumerate(history, 1):
        message.seq = seq
    shelf = assets or Shelf()
    return ModelRequest(
        model=model,
        messages=history,
        system_prompt=system_prompt,
        options=options,
        describe_assets=shelf.describe,
        load_asset=shelf.load,
        max_request_bytes=max_request_bytes,
    )


class Shelf:
    """Assets of a test.

    Args:
        contents: (media type, content) of each.

    Attributes:
        loaded: the ids that were loaded, in order.
        piece_bytes: size of the pieces in which an asset is loaded.
    """

    def __init__(self, *contents: tuple[str, bytes]) -> None:
        self.contents = {
            hashlib.sha256(content).hexdigest(): (media_type, content)
            for media_type, content in contents
        }
        self.loaded: list[str] = []
        self.piece_bytes = 100_001

    @property
    def ids(self) -> list[str]:
        return list(self.contents)

    async def describe(self, asset_ids: Sequence[str]) -> Mapping[str, AssetInfo]:
        return {
            asset_id: AssetInfo(self.contents[asset_id][0], len(self.contents[asset_id][1]))
            for asset_id in asset_ids
            if asset_id in self.contents
        }

    async def load(self, asset_id: str) -> AsyncGenerator[bytes, None]:
        self.loaded.append(asset_id)
        content = self.contents[asset_id][1]
        for start in range(0, len(content), self.piece_bytes):
            yield content[start : start + self.piece_bytes]


@dataclass
class Heard:
    """The output of a provider."""

    deltas: list[Delta] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    fault: ModelFault | None = None

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if not delta.is_reasoning)

    @property
    def thinking(self) -> str:
        return "".join(delta.text for delta in self.deltas if delta.is_reasoning)

    @property
    def answer(self) -> Answer:
        assert not self.fault, self.fault
        assert len(self.answers) == 1
        return self.answers[0]

    @property
    def message(self) -> dict[str, Any]:
        (message,) = self.items
        return message

    @property
    def items(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.answer.messages]

    @property
    def refusal(self) -> ModelFault:
        assert self.fault
        assert not self.answers
        return self.fault


async def hear(provider: Provider, asked: ModelRequest) -> Heard:
    """Send a request, and collect the provider's whole output."""
    heard = Heard()
    pieces: AsyncGenerator[Delta | Answer, None] = provider.stream(asked)
    try:
        async for piece in pieces:
            if isinstance(piece, Delta):
                assert not heard.answers, "nothing comes after the answer"
                heard.deltas.append(piece)
            else:
                heard.answers.append(piece)
    except ModelFault as fault:
        heard.fault = fault
    return heard
