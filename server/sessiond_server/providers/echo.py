"""The model that needs no provider: it says what it was told. For development, demonstrations and tests."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any

from sessiond.v1.error_reason_pb2 import ErrorReason
from sessiond.v1.message_pb2 import FORMAT_OPENAI, ROLE_USER, Format
from sessiond.v1.turn_pb2 import Usage
from sessiond_server.providers.base import Answer, Delta, ModelFault, ModelRequest
from sessiond_server.providers.conversion import plain_texts
from sessiond_server.providers.json_text import dumps

_WORD = re.compile(r"\s*\S+\s*")
MAX_DELAY_MS = 60_000

# A set: protobuf enums have no __contains__.
_REASONS = frozenset(ErrorReason.keys())


class Echo:
    """Answers "echo of 3 messages: " and the text of the last user message, a word a delta.

    The messages are those of the history, the last one included; the system prompt is not one. Usage counts words as tokens. Options:
        echo_text: answer this instead.
        echo_delay_ms: pause before each delta, in milliseconds; at most 60,000.
        echo_fault: fail with this reason, e.g. "MODEL_UNAVAILABLE".
        echo_fault_after: after so many deltas. Default: 0.
    """

    format: Format.ValueType = FORMAT_OPENAI

    def __init__(self, name: str = "echo") -> None:
        self.name = name

    async def ask(self, request: ModelRequest) -> AsyncGenerator[Delta | Answer, None]:
        """See Provider. Raises: ModelFault MODEL_REQUEST_REJECTED for options that are none; that of echo_fault."""
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
        history = plain_texts(request.messages)
        if text is None:
            text = self._echo([words for role, words in history if role == ROLE_USER], len(history))
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
                f"{self.name} was told to fail",
                metadata={"model": request.model, "provider": self.name},
            )
        read = sum(len(words.split()) for _, words in history) + len(request.system_prompt.split())
        yield Answer(
            json=dumps({"role": "assistant", "content": text}),
            model=request.model,
            stop_reason="stop",
            usage=Usage(input_tokens=read, output_tokens=count),
        )

    async def close(self) -> None:
        """See Provider: there is nothing to give up."""

    def _echo(self, said_by_user: list[str], count: int) -> str:
        return f"echo of {count} message{'' if count == 1 else 's'}: {said_by_user[-1] if said_by_user else ''}".strip()

    def _option(self, request: ModelRequest, name: str, kind: Any, default: Any) -> Any:
        value = request.options.get(name, default)
        if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
            raise self._rejected(request, name)
        return value

    def _rejected(self, request: ModelRequest, name: str) -> ModelFault:
        return ModelFault(
            "MODEL_REQUEST_REJECTED",
            f"{self.name} does not take the request: {name} is not what it may be",
            metadata={"model": request.model, "provider": self.name},
        )
