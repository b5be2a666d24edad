"""The hits of a provider's prompt cache: the longest common prefix with an earlier request."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .refusal import JSON, Api

# The keys of a body that come before the messages, in the order in which a provider reads them.
_HEAD: Mapping[Api, tuple[str, ...]] = {
    "openai": ("tools",),
    "groq": ("tools",),
    "deepseek": ("tools",),
    "responses": ("tools", "instructions"),
    "anthropic": ("tools", "system"),
    "gemini": ("tools", "systemInstruction", "system_instruction"),
}
# The key of a body that has the messages.
_MESSAGES: Mapping[Api, str] = {
    "openai": "messages",
    "groq": "messages",
    "deepseek": "messages",
    "responses": "input",
    "anthropic": "messages",
    "gemini": "contents",
}


@dataclass(frozen=True)
class CacheUse:
    """The longest prefix that a request has in common with an earlier one of its conversation.

    Attributes:
        conversation: the conversation.
        messages: the messages in the longest common prefix.
        total_messages: the messages of the request.
        bytes: the size of the prefix as JSON, including the parts before the messages.
        total_bytes: the size of the whole request.
        extends: whether the request begins with the whole previous request. True for the first.
    """

    conversation: str
    messages: int
    total_messages: int
    bytes: int
    total_bytes: int
    extends: bool


class PromptCache:
    """Counts the common prefixes of the requests of each conversation.

    Attributes:
        uses: a CacheUse for each request, in order.
    """

    def __init__(self) -> None:
        self.uses: list[CacheUse] = []
        self._earlier: dict[tuple[Api, str], list[list[bytes]]] = defaultdict(list)

    def add(self, api: Api, conversation: str, body: JSON) -> CacheUse:
        """Count a request.

        Args:
            api: the API that received it. APIs have separate caches.
            conversation: the conversation to which it belongs.
            body: the request.

        Returns:
            Its CacheUse, which is also the last of `uses`.
        """
        head = [(key, body[key]) for key in _HEAD[api] if key in body]
        messages = body.get(_MESSAGES[api], [])
        messages = messages if isinstance(messages, list) else [messages]
        # The parts before the messages are one unit. If it differs, no message counts.
        units = [_as_json(head), *(_as_json(message) for message in messages)]
        earlier = self._earlier[api, conversation]
        shared = max((_common(units, other) for other in earlier), default=0)
        use = CacheUse(
            conversation=conversation,
            messages=max(shared - 1, 0),
            total_messages=len(messages),
            bytes=sum(map(len, units[:shared])),
            total_bytes=sum(map(len, units)),
            extends=not earlier or _common(units, earlier[-1]) == len(earlier[-1]),
        )
        earlier.append(units)
        self.uses.append(use)
        return use

    def breaks(self, conversation: str = "") -> int:
        """Return how many requests of a conversation do not begin with the previous request."""
        return sum(use.conversation == conversation and not use.extends for use in self.uses)


def _as_json(value: Any) -> bytes:
    """Return JSON that keeps the order of keys, because caches compare the sent bytes."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _common(units: list[bytes], other: list[bytes]) -> int:
    """Return how many units two requests have in common from their start."""
    pairs = enumerate(zip(units, other, strict=False))
    return next((at for at, (one, two) in pairs if one != two), min(len(units), len(other)))
