"""The context of a model call: the session's history, within the limits of its config."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_TOOL,
    Message,
)
from sessiond_server.core.errors import Fault, invalid, session_not_found
from sessiond_server.messages.store.history import HistoryStore, LogHead, PageQuery
from sessiond_server.messages.store.segments import cut
from sessiond_server.sessions.settings import model_options_of

PAGE_ROWS, PAGE_BYTES = 1024, 4 * 1024 * 1024
# How often a history is read again that is deleted or moved meanwhile.
ATTEMPTS = 5

# Keys of tool results in messages of roles other than ROLE_TOOL.
_RESULTS = {
    FORMAT_ANTHROPIC: ('"tool_result"',),
    FORMAT_GEMINI: ('"functionResponse"', '"function_response"'),
    FORMAT_OPENAI: ('"function_call_output"',),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of a session's config that turns use.

    Attributes:
        system_prompt: instructions that precede the history; "" = none.
        model_options: fields of the provider's request.
        max_messages: limit of the history; 0 = none.
        max_tokens: limit of the history; 0 = none.
    """

    system_prompt: str = ""
    model_options: dict[str, Any] = field(default_factory=dict)
    max_messages: int = 0
    max_tokens: int = 0


def policy_of(config: dict[str, Any]) -> Policy:
    """Return the policy of a session's config.

    Raises:
        Fault: INVALID_FIELD for a key of the wrong type.
    """
    system_prompt = config.get("system_prompt", "")
    if not isinstance(system_prompt, str):
        raise invalid("session.config.system_prompt", "is not a string")
    model_options = model_options_of(config, "session.config")
    context = config.get("context", {})
    if not isinstance(context, dict):
        raise invalid("session.config.context", "is not an object")
    limits = {}
    for name in ("max_messages", "max_tokens"):
        limit = context.get(name, 0)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise invalid(
                f"session.config.context.{name}", "is not a whole number from 0 on; 0 = no limit"
            )
        limits[name] = limit
    return Policy(system_prompt, model_options, **limits)


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """A session's history.

    Attributes:
        log: distinguishes the session from earlier and later ones with the same id.
        max_bytes: the most content, in bytes.
    """

    key: UUID
    project_id: UUID
    session_id: str
    log: UUID
    max_bytes: int


async def history_of(store: HistoryStore, wanted: HistoryRequest, policy: Policy) -> list[Message]:
    """Return the newest messages that the policy allows, the oldest first.

    If the policy limits them, all system and developer messages before them come first.

    Raises:
        Fault: CONTEXT_TOO_LARGE; SESSION_NOT_FOUND if the session is deleted meanwhile.
    """
    for _ in range(ATTEMPTS):
        head = await store.head(wanted.key, wanted.project_id)
        if head is None or head.log != wanted.log:
            raise session_not_found(wanted.session_id)
        messages = await _HistoryReader(store, wanted, head).read(policy)
        if messages is not None:
            return messages
    raise session_not_found(wanted.session_id)


def _has_results(message: Message) -> bool:
    """Return whether a message has results of tool calls. A false True costs one more message."""
    if message.HasField("parts"):
        return any(part.HasField("tool_result") for part in message.parts.parts)
    return message.role == ROLE_TOOL or any(
        key in message.json for key in _RESULTS.get(message.format, ())
    )


class _HistoryReader:
    """Makes one attempt to read a history."""

    def __init__(self, store: HistoryStore, wanted: HistoryRequest, head: LogHead) -> None:
        self._store = store
        self._wanted = wanted
        self._head = head
        self._bytes = 0

    async def read(self, policy: Policy) -> list[Message] | None:
        """Return the messages; None if they were moved or deleted since the head was read."""
        if not (policy.max_messages or policy.max_tokens):
            if self._head.content_bytes > self._wanted.max_bytes:
                raise self._too_large(self._head.content_bytes)
            window = await self._backwards(0, 0)
            return window if window is None else window[::-1]
        window = await self._backwards(policy.max_messages, policy.max_tokens)
        if window is None:
            return None
        window.reverse()
        first = window[0].seq if window else self._head.last_seq + 1
        return await self._instructions(first) + window

    async def _backwards(self, max_messages: int, max_tokens: int) -> list[Message] | None:
        """Return the newest messages, the newest first.

        At least one, and results of tools always with their calls. A limit of 0 is none.
        """
        messages: list[Message] = []
        tokens = 0
        end = self._head.last_seq
        while end > 0:
            page = await self._page(0, end, descending=True)
            if not page:
                return None
            for message in page:
                if message.seq != end:
                    return None
                tokens += message.token_count
                is_enough = (max_messages and len(messages) >= max_messages) or (
                    max_tokens and tokens > max_tokens
                )
                if messages and is_enough and not _has_results(messages[-1]):
                    return messages
                messages.append(message)
                end -= 1
        return messages

    async def _instructions(self, before: int) -> list[Message]:
        messages: list[Message] = []
        after = 0
        while True:
            page = await self._page(after, before - 1, roles=(ROLE_SYSTEM, ROLE_DEVELOPER))
            if not page:
                return messages
            messages += page
            after = page[-1].seq

    async def _page(
        self, after: int, through: int, *, descending: bool = False, roles: tuple[int, ...] = ()
    ) -> Sequence[Message]:
        segments = tuple(cut(self._head.segments, after, through))
        if not segments:
            return ()
        rows = await self._store.page(
            PageQuery(segments, PAGE_ROWS, PAGE_BYTES, descending=descending, roles=roles)
        )
        messages = []
        for seq, _, body in rows:
            message = Message.FromString(body)
            message.seq = seq
            self._bytes += message.content_bytes
            messages.append(message)
        if self._bytes > self._wanted.max_bytes:
            raise self._too_large(self._bytes)
        return messages

    def _too_large(self, content_bytes: int) -> Fault:
        return Fault(
            "CONTEXT_TOO_LARGE",
            f"the history of session {self._wanted.session_id!r} has {content_bytes} bytes; this "
            f"server sends a model at most {self._wanted.max_bytes}: set "
            "config.context.max_messages or max_tokens",
            metadata={
                "session_id": self._wanted.session_id,
                "context_bytes": content_bytes,
                "max_bytes": self._wanted.max_bytes,
            },
        )
