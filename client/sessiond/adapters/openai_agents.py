"""A session of the OpenAI Agents SDK: its history in sessiond.

    from agents import Agent, Runner
    from sessiond.adapters.openai_agents import SessiondSession

    session = SessiondSession("user-42")
    result = await Runner.run(Agent(name="Tea"), "Hello", session=session)

The session has the given id in sessiond, too. Each item is a message, kept byte for byte: in the
format "openai" if it is an item of the Responses API, else in the format "other".
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from sessiond._async._client import AsyncClient
from sessiond._requests.input import NewMessage
from sessiond._requests.options import SessionSettings
from sessiond.adapters._backend import (
    MAX_BATCH_BYTES,
    MAX_BATCH_MESSAGES,
    AnyClient,
    Backend,
    append,
    collected,
    decoded,
    encoded,
)
from sessiond.errors import (
    BatchTooLarge,
    HistoryRewound,
    InvalidRequest,
    SequenceConflict,
    SessionNotFound,
)

try:
    from agents.memory import session_settings as sdk_settings
except ImportError as error:
    raise ImportError(
        "sessiond.adapters.openai_agents needs the OpenAI Agents SDK: "
        'pip install "sessiond[openai-agents]"'
    ) from error

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.memory.session import _CompactionSnapshot

FORMAT_NAME = "openai-agents"

# Roles of messages that are items of the Responses API. Others, such as "tool", are those of Chat
# Completions, which the SDK does not take; an item with one is the framework's own matter.
_ROLES = ("user", "assistant", "system", "developer")
# Keys of Chat Completions.
_CHAT_KEYS = ("tool_calls", "tool_call_id", "function_call")
# Parts of Chat Completions.
_CHAT_PARTS = ("text", "image_url", "file")

_Item: TypeAlias = dict[str, Any]


class SessiondSession:
    """A `Session` of the OpenAI Agents SDK.

    It can be used from any event loop, also from several at once. It keeps no items of its own, so
    any number of objects in any number of processes may have one session.

    The session is created by the first items. Adding items is atomic, whatever their size. Taking
    items back is a rewind: it takes the same time for a history of any length, concurrent
    `pop_item()`s get different items, and copies of the session keep them. A change whose caller is
    cancelled ends first, so that it never happens unseen.

    Args:
        session_id: 1 to 1,024 characters, together with the namespace.
        client: a `Client` or an `AsyncClient`, whose address, API key, TLS and timeout are used.
            Not together with target or api_key.
        target: HOST:PORT of the server. Default: $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key. Default: $SESSIOND_API_KEY, or none.
        namespace: keeps the session apart from those of other namespaces, at most 200 characters.
            Default: none.
        session_settings: the SDK's `SessionSettings`, or a dict of its fields: `limit` is how many
            items, the latest ones, the history has at most.
        create: settings of a new session: model, user, title, config, metadata, idle_ttl,
            never_expires. Default: the server's.

    Attributes:
        session_id: the given id.
        session_settings: the SDK's settings, never None.

    Raises:
        InvalidField: if an argument is malformed.
    """

    def __init__(
        self,
        session_id: str,
        *,
        client: AnyClient | None = None,
        target: str | None = None,
        api_key: str | None = None,
        namespace: str | None = None,
        session_settings: "sdk_settings.SessionSettings | dict[str, Any] | None" = None,
        create: SessionSettings | None = None,
    ) -> None:
        self._backend = Backend(client, target, api_key, namespace)
        self._id = self._backend.session_id(session_id)
        self._create: SessionSettings = {**create} if create else {}
        self.session_id = session_id
        self.session_settings = sdk_settings.coerce_session_settings(session_settings or {})

    @property
    def sessiond_id(self) -> str:
        """The session's id in sessiond: session_id in its namespace."""
        return self._id

    async def get_items(self, limit: int | None = None) -> "list[TResponseInputItem]":
        """Return the items in chronological order.

        Args:
            limit: return only so many, the latest ones. 0 = none; below 0 = all, as in
                SQLiteSession. Default: that of session_settings, or all.

        Raises:
            SessiondError: if the server was not reached.
        """
        most = sdk_settings.resolve_session_limit(limit, self.session_settings)
        if most == 0:
            return []

        async def call(client: AsyncClient) -> list[_Item]:
            try:
                if most is None or most < 0:
                    return await collected(client.sessions.get_messages(self._id), decoded)
                latest = client.sessions.get_messages(self._id, order="desc", limit=most)
                return (await collected(latest, decoded))[::-1]
            except SessionNotFound:
                return []

        return await self._backend.run(call)

    async def add_items(self, items: "list[TResponseInputItem]") -> None:
        """Append items, all or nothing, and create the session if there is none.

        Args:
            items: JSON objects.

        Raises:
            SessiondError: if the server refused them, or was not reached.
        """
        if not items:
            return
        messages = _messages(items)

        await self._backend.run(lambda client: self._append(client, messages), settles=True)

    async def pop_item(self) -> "TResponseInputItem | None":
        """Remove and return the latest item.

        Returns:
            The item. None = there is none.

        Raises:
            TurnRunning: if sessiond runs a turn in the session.
            SessiondError: if the server was not reached.
        """

        async def call(client: AsyncClient) -> _Item | None:
            try:
                message = await client.sessions.pop(self._id)
            except SessionNotFound:
                return None
            return decoded(message) if message else None

        return await self._backend.run(call, settles=True)

    async def clear_session(self) -> None:
        """Remove all items. The session stays, and takes new ones.

        Raises:
            TurnRunning: if sessiond runs a turn in the session.
            SessiondError: if the server was not reached.
        """

        async def call(client: AsyncClient) -> None:
            with suppress(SessionNotFound):
                await client.sessions.clear(self._id)

        await self._backend.run(call, settles=True)

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: "Callable[[Any], bool] | None" = None
    ) -> "_CompactionSnapshot | None":
        """Return the latest items with a function that replaces the last of them.

        `OpenAIResponsesCompactionSession` asks for this, so that it neither reads nor loses what it
        does not compact.

        Args:
            limit: how many items.
            prune_prefix: says which of the oldest items may be removed on this occasion.

        Returns:
            The snapshot. None if a subclass changes items, which this would bypass, or if items
            were taken back meanwhile.
        """
        if self._is_changed():
            return None
        from agents.memory.session import _CompactionSnapshot

        async def read(client: AsyncClient) -> tuple[int, int, list[_Item]]:
            try:
                info = await client.sessions.get(self._id)
                messages = client.sessions.get_messages(
                    self._id,
                    order="desc",
                    through_seq=info.last_seq,
                    limit=limit,
                    expected_epoch=info.epoch,
                )
                found = await collected(messages, decoded) if info.last_seq else []
            except SessionNotFound:
                return 0, 0, []
            return info.last_seq, info.epoch, found[::-1]

        try:
            last_seq, epoch, items = await self._backend.run(read)
        except HistoryRewound:
            return None  # between the two calls
        first_seq = last_seq - len(items) + 1

        async def replace_suffix(start: int, output: "list[TResponseInputItem]") -> bool:
            if not items[start:]:
                return False
            return await self._replace(first_seq + start, last_seq, epoch, output, prune_prefix)

        return _CompactionSnapshot(items, first_seq == 1, replace_suffix)

    async def _atomic_replace_items(self, items: "list[TResponseInputItem]") -> bool:
        """Replace all items, in one commit, for `OpenAIResponsesCompactionSession`.

        Returns:
            Whether they were replaced. False if they are too many for one commit, or if a subclass
            changes items, which this would bypass.
        """
        if self._is_changed():
            return False

        async def call(client: AsyncClient) -> bool:
            try:
                return await self._rewind(client, 0, _messages(items))
            except SessionNotFound:
                return False

        return await self._backend.run(call, settles=True)

    async def _append(self, client: AsyncClient, messages: list[NewMessage]) -> None:
        try:
            await append(client, self._id, messages, create=self._create)
        except InvalidRequest:
            if all(message.format == "other" for message in messages):
                raise
            # An item looks like OpenAI's and is not. Only the server's check is exact.
            await append(client, self._id, _as_other(messages), create=self._create)

    def _is_changed(self) -> bool:
        """Whether a subclass has put another method in the place of one of ours."""
        return any(
            getattr(type(self), name) is not getattr(SessiondSession, name)
            for name in ("get_items", "add_items", "pop_item", "clear_session")
        )

    async def _replace(
        self,
        from_seq: int,
        last_seq: int,
        epoch: int,
        output: "Sequence[TResponseInputItem]",
        prune_prefix: "Callable[[Any], bool] | None",
    ) -> bool:
        """Replace the items from a seq on, unless the history has changed since it was read.

        Returns:
            Whether they were replaced. False if the history has changed, or if the new items are
            too many for one commit.
        """
        messages = _messages(output)

        async def call(client: AsyncClient) -> bool:
            expected = {"expected_last_seq": last_seq, "expected_epoch": epoch}
            to_seq = from_seq - 1
            if prune_prefix is not None and to_seq:
                kept = await self._unexpired(client, to_seq, epoch, prune_prefix)
                # Only the end of a history can be removed, so what is kept is written anew.
                if len(kept) < to_seq and await self._rewind(
                    client, 0, [*kept, *messages], **expected
                ):
                    return True
            return await self._rewind(client, to_seq, messages, **expected)

        try:
            return await self._backend.run(call, settles=True)
        except (SequenceConflict, HistoryRewound, SessionNotFound):
            return False

    async def _unexpired(
        self,
        client: AsyncClient,
        through_seq: int,
        epoch: int,
        prune_prefix: "Callable[[Any], bool]",
    ) -> list[NewMessage]:
        """Return the messages up to a seq, without the oldest ones that may be removed."""
        messages = client.sessions.get_messages(
            self._id, through_seq=through_seq, expected_epoch=epoch
        )
        items = await collected(messages, decoded)
        first = next((i for i, item in enumerate(items) if not prune_prefix(item)), len(items))
        return _messages(items[first:])

    async def _rewind(
        self,
        client: AsyncClient,
        to_seq: int,
        messages: list[NewMessage],
        **expected: Any,
    ) -> bool:
        """Remove the items after a seq, and append others, in one commit.

        Returns:
            Whether this was done. False if the messages are too many for one commit.
        """
        size = sum(len(message.blob or ()) for message in messages)
        if len(messages) > MAX_BATCH_MESSAGES or size > MAX_BATCH_BYTES:
            return False
        try:
            await client.sessions.rewind(self._id, to_seq=to_seq, messages=messages, **expected)
        except BatchTooLarge:
            return False
        except InvalidRequest:
            if all(message.format == "other" for message in messages):
                raise
            messages = _as_other(messages)
            await client.sessions.rewind(self._id, to_seq=to_seq, messages=messages, **expected)
        return True


def _messages(items: "Sequence[Any]") -> list[NewMessage]:
    messages = []
    for i, item in enumerate(items):
        blob = encoded(item, f"items[{i}]")
        if is_response_item(item):
            messages.append(NewMessage(blob, format="openai"))
        else:
            messages.append(NewMessage(blob, format="other", format_name=FORMAT_NAME))
    return messages


def _as_other(messages: Sequence[NewMessage]) -> list[NewMessage]:
    return [replace(message, format="other", format_name=FORMAT_NAME) for message in messages]


def is_response_item(item: _Item) -> bool:
    """Whether an item is one of the Responses API, as far as its shape shows.

    What is stored in the format "openai" and is none, such as a message of Chat Completions with
    calls, was stored by another program.
    """
    role = item.get("role")
    if role is None:
        return isinstance(kind := item.get("type"), str) and kind != "message"
    if role not in _ROLES or not item.keys().isdisjoint(_CHAT_KEYS):
        return False
    content = item.get("content")
    return isinstance(content, str) or (
        isinstance(content, list)
        and all(isinstance(part, dict) and part.get("type") not in _CHAT_PARTS for part in content)
    )
