"""A model that needs no provider and repeats its input: for development and tests."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

from sessiond.v1.error_reason_pb2 import ErrorReason
from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER, Format, Role
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.formats.pieces import Entry, Text
from sessiond_server.formats.read.conversation import read_all, spoken
from sessiond_server.formats.report import Report
from sessiond_server.providers.base import Answer, Delta, ModelFault, ModelRequest, Preview
from sessiond_server.providers.json_text import dumps

_WORD = re.compile(r"\s*\S+\s*")
MAX_DELAY_MS = 60_000

# A set: protobuf enums have no __contains__.
_REASONS = frozenset(ErrorReason.keys())


class Echo:
    """A model that answers "echo of 3 messages: " and the text of the user's last message.

    Each delta is one word. The count includes all messages of the history, but not the system
    prompt. Usage counts words as tokens.

    Options of a request:
        echo_text: replaces the answer.
        echo_delay_ms: pause before each delta in milliseconds, at most 60,000. Default: 0.
        echo_fault: the reason to fail with, such as "MODEL_UNAVAILABLE".
        echo_fault_after: the number of deltas before the fault. Default: 0.
    """

    format: Format.ValueType = FORMAT_OPENAI

    def __init__(self, name: str = "echo") -> None:
        self.name = name

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See Provider.

        Raises:
            ModelFault: MODEL_REQUEST_REJECTED if an option is invalid; the reason of echo_fault if
                given.
        """
        text = self._option(request, "echo_text", str, None)
        delay_s = self._option(request, "echo_delay_ms", int | float, 0) / 1000
        fault = self._option(request, "echo_fault", str, "")
        fault_after = self._option(request, "echo_fault_after", int, 0)
        if not 0 <= delay_s <= MAX_DELAY_MS / 1000:
            raise self._rejected(request, "echo_delay_ms")
        if text is not None and not text.strip():
            raise self._rejected(request, "echo_text")
        if fault and (not fault.startswith("MODEL_") or f"ERROR_REASON_{fault}" not in _REASONS):
            raise self._rejected(request, "echo_fault")
        history = [(entry.role, _text_of(entry)) for entry in spoken(read_all(request.messages))]
        if text is None:
            text = self._echo(
                [content for role, content in history if role == ROLE_USER], len(history)
            )
        count = 0
        for word in _WORD.findall(text):
            if fault and count >= fault_after:
                break
            if delay_s:
                await asyncio.sleep(delay_s)
            yield Delta(word)
            count += 1
        if fault:
            raise ModelFault(
                fault,
                f"{self.name} failed, as echo_fault requests",
                metadata={"model": request.model, "provider": self.name},
            )
        prompts = [request.system_prompt, *(content for _, content in history)]
        yield Answer(
            messages=[dumps({"role": "assistant", "content": text})],
            model=request.model,
            stop_reason="stop",
            usage=Usage(
                input_tokens=sum(len(prompt.split()) for prompt in prompts), output_tokens=count
            ),
        )

    async def preview(self, request: ModelRequest) -> Preview:
        """See Provider. The request has only the texts of messages; this model reads no more."""
        history = [
            {
                "role": Role.Name(entry.role).removeprefix("ROLE_").lower(),
                "content": _text_of(entry),
            }
            for entry in spoken(read_all(request.messages))
        ]
        prompt = [{"role": "system", "content": request.system_prompt}]
        messages = [*(prompt if request.system_prompt else []), *history]
        text = dumps({"model": request.model, "messages": messages, **request.options})
        return Preview(text, len(text.encode()), Report())

    async def close(self) -> None:
        """See Provider: there is nothing to close."""

    def _echo(self, user_texts: list[str], count: int) -> str:
        messages = "message" if count == 1 else "messages"
        return f"echo of {count} {messages}: {user_texts[-1] if user_texts else ''}".strip()

    def _option(self, request: ModelRequest, name: str, kind: Any, default: Any) -> Any:
        value = request.options.get(name, default)
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self._rejected(request, name)
        return value

    def _rejected(self, request: ModelRequest, name: str) -> ModelFault:
        return ModelFault(
            "MODEL_REQUEST_REJECTED",
            f"{self.name} rejected the request: {name} has an invalid value",
            metadata={"model": request.model, "provider": self.name},
        )


def _text_of(entry: Entry) -> str:
    return " ".join(piece.text for piece in entry.pieces if isinstance(piece, Text))
