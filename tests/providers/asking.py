"""Questions of the tests, and what comes of them."""

import json
from collections.abc import AsyncGenerator, Sequence
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
from sessiond_server.providers.base import (
    Answer,
    AssetContent,
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
    """A message as the store gives it."""
    is_output = str(value.get("type", "")).endswith("_output")
    role = ROLES[value["role"]] if "role" in value else ROLE_TOOL if is_output else ROLE_ASSISTANT
    return Message(role=role, format=message_format, json=json.dumps(value, ensure_ascii=False))


def openai(*values: dict[str, Any]) -> list[Message]:
    return [stored(value) for value in values]


def anthropic(*values: dict[str, Any]) -> list[Message]:
    return [stored(value, FORMAT_ANTHROPIC) for value in values]


def gemini(*values: dict[str, Any]) -> list[Message]:
    return [stored(value, FORMAT_GEMINI) for value in values]


async def no_assets(asset_id: str) -> AssetContent:
    raise AssertionError(f"no asset was expected, but {asset_id}")


def question(
    messages: Sequence[Message] | str = "Hello",
    *,
    model: str = "m",
    system_prompt: str = "",
    load_asset: Any = no_assets,
    **options: Any,
) -> ModelRequest:
    history = (
        openai({"role": "user", "content": messages}) if isinstance(messages, str) else messages
    )
    return ModelRequest(
        model=model,
        messages=history,
        load_asset=load_asset,
        system_prompt=system_prompt,
        options=options,
    )


@dataclass
class Heard:
    """What a provider said."""

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
        message: dict[str, Any] = json.loads(self.answer.json)
        return message

    @property
    def refusal(self) -> ModelFault:
        assert self.fault
        assert not self.answers
        return self.fault


async def hear(provider: Provider, asked: ModelRequest) -> Heard:
    """Ask, and take what comes to the end."""
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
