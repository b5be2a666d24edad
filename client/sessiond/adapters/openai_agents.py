"""A session of the OpenAI Agents SDK: its history in sessiond.

    from agents import Agent, Runner
    from sessiond.adapters.openai_agents import SessiondSession

    session = SessiondSession("user-42")
    result = await Runner.run(Agent(name="Tea"), "Hello", session=session)

The session has the same id in sessiond. Each item is a message, kept byte for byte: in the
format "openai" if it is an item of the Responses API, else in the format "other".
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

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
)
from sessiond.adapters._history import Item, Place, read_items
from sessiond.adapters._openai_items import as_other, converted, messages_of, own_item
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

# Maximum number of messages to search for items. Only notes of other programs hold no item, so the
# search nearly always ends much earlier.
_MAX_SCANNED = 10_000


class _End(NamedTuple):
    """The end of a history, and its latest items."""

    last_seq: int
    epoch: int
    places: list[Place]

    @property
    def expected(self) -> dict[str, int]:
        """Arguments with which an append fails if the history has changed."""
        return {"expected_last_seq": self.last_seq, "expected_epoch": self.epoch}


class SessiondSession:
    """A `Session` of the OpenAI Agents SDK.

    It can be used from any event loop, also from several at once. It keeps no items of its own, so
    any number of objects in any number of processes may have one session.

    The session is created by the first items. Adding items is atomic, whatever their size. Taking
    items back is a rewind: it takes the same time for a history of any length, and copies of the
    session keep the items. Concurrent `pop_item()`s get different items. A caller that is cancelled
    waits until its change has ended, so that it knows whether the change happened.

    Args:
        session_id: id of the session. With its namespace it has 1 to 1,024 characters.
        client: a `Client` or an `AsyncClient`, whose address, API key, TLS and timeout are used.
            Not together with target or api_key.
        target: HOST:PORT of the server. Default: $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key. Default: $SESSIOND_API_KEY, or none.
        namespace: keeps the session apart from those of other namespaces, at most 200 characters.
            Default: none.
        session_settings: the SDK's `SessionSettings`, or a dict of its fields. Its `limit` is the
            maximum number of items to return from the history: the latest ones.
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
        # Whether the last read found items that are not the SDK's own.
        self._has_others = False
        # Whether an append has found or created the session.
        self._exists = False
        self.session_id = session_id
        self.session_settings = sdk_settings.coerce_session_settings(session_settings or {})

    @property
    def sessiond_id(self) -> str:
        """The session's id in sessiond: session_id in its namespace."""
        return self._id

    async def get_items(self, limit: int | None = None) -> "list[TResponseInputItem]":
        """Return the items in chronological order.

        Args:
            limit: maximum number of items; the latest are returned. 0 = none; below 0 = all, as in
                SQLiteSession. Default: that of session_settings, or all.

        Raises:
            SessiondError: if the server was not reached.
        """
        most = sdk_settings.resolve_session_limit(limit, self.session_settings)
        if most == 0:
            return []

        async def call(client: AsyncClient) -> list[Item]:
            try:
                limit = None if most is None or most < 0 else most
                # Nearly all sessions have only the SDK's own items.
                order = "asc" if limit is None else "desc"
                messages = client.sessions.get_messages(self._id, order=order, limit=limit)
                found = await collected(messages, own_item)
                own = [item for item in found if item is not None]
                if len(own) == len(found):
                    self._has_others = False
                    return own if limit is None else own[::-1]
                return [place.item for place in await self._places(client, limit)]
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
        messages = messages_of(items)

        await self._backend.run(lambda client: self._append(client, messages), settles=True)

    async def pop_item(self) -> "TResponseInputItem | None":
        """Remove and return the latest item.

        Returns:
            The item. None = there is none.

        Raises:
            TurnRunning: if sessiond runs a turn in the session.
            SessiondError: if the server was not reached.
        """

        async def call(client: AsyncClient) -> Item | None:
            try:
                if not self._has_others:
                    message = await client.sessions.pop(self._id)
                    if message is None or (item := own_item(message)) is not None:
                        return item if message else None
                    await client.sessions.store_message(self._id, message)
                return await self._pop_of_mixed(client)
            except SessionNotFound:
                return None

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
        """Return the latest items, and a function that replaces them from a given index on.

        `OpenAIResponsesCompactionSession` calls this, so that it neither reads nor loses items that
        it does not compact.

        Args:
            limit: maximum number of items.
            prune_prefix: function that returns whether an item may be removed as well. It is called
                with the oldest item first, until it returns False.

        Returns:
            The snapshot. None if a subclass overrides a method that this would bypass, or if items
            were taken back meanwhile.
        """
        if self._is_changed():
            return None
        from agents.memory.session import _CompactionSnapshot

        async def read(client: AsyncClient) -> _End:
            try:
                return await self._end(client, limit + 1)
            except SessionNotFound:
                return _End(0, 0, [])

        try:
            end = await self._backend.run(read)
        except HistoryRewound:
            return None  # the session was rewound while it was read
        # One item more than wanted shows whether there are more.
        skipped = max(0, len(end.places) - limit)
        items = [place.item for place in end.places[skipped:]]

        async def replace_suffix(start: int, output: "list[TResponseInputItem]") -> bool:
            if not items[start:]:
                return False
            return await self._replace(end, skipped + start, output, prune_prefix)

        return _CompactionSnapshot(items, not skipped, replace_suffix)

    async def _atomic_replace_items(self, items: "list[TResponseInputItem]") -> bool:
        """Replace all items, in one commit, for `OpenAIResponsesCompactionSession`.

        Returns:
            Whether they were replaced. False if they are too many for one commit, or if a subclass
            overrides a method that this would bypass.
        """
        if self._is_changed():
            return False

        async def call(client: AsyncClient) -> bool:
            try:
                return await self._rewind(client, 0, messages_of(items))
            except SessionNotFound:
                return False

        return await self._backend.run(call, settles=True)

    async def _append(self, client: AsyncClient, messages: list[NewMessage]) -> None:
        try:
            # For an existing session, the server would only check the settings.
            create = None if self._exists else self._create
            await append(client, self._id, messages, create=create)
        except SessionNotFound:
            if not self._exists:
                raise
            self._exists = False  # the session was deleted
            await self._append(client, messages)
        except InvalidRequest:
            if all(message.format == "other" for message in messages):
                raise
            # The server's check is exact, and has found an item that only looks like one of the
            # Responses API.
            await self._append(client, as_other(messages))
        self._exists = True

    def _is_changed(self) -> bool:
        """Whether a subclass overrides one of the methods for items."""
        return any(
            getattr(type(self), name) is not getattr(SessiondSession, name)
            for name in ("get_items", "add_items", "pop_item", "clear_session")
        )

    async def _places(self, client: AsyncClient, limit: int | None, **options: Any) -> list[Place]:
        """Read the latest items, or all, with their seqs. Options are those of get_messages."""
        if limit is None:
            places = await read_items(client, self._id, own_item, converted, **options)
        else:
            count = limit
            while True:
                places = await read_items(
                    client, self._id, own_item, converted, order="desc", limit=count, **options
                )
                # Messages of other programs may hold no item, or several.
                is_whole = not places or places[0].seq == 1 or len(places) >= limit
                if is_whole or count > _MAX_SCANNED:
                    break
                count *= 4
            places = places[-limit:]
        self._has_others = not all(place.is_own for place in places)
        return places

    async def _end(self, client: AsyncClient, limit: int) -> _End:
        """Read the latest items, and the last_seq and epoch of the history."""
        info = await client.sessions.get(self._id)
        if not info.last_seq:
            return _End(0, info.epoch, [])
        places = await self._places(
            client, limit, through_seq=info.last_seq, expected_epoch=info.epoch
        )
        return _End(info.last_seq, info.epoch, places)

    async def _pop_of_mixed(self, client: AsyncClient) -> Item | None:
        """Remove the latest item of a session that other programs have written to as well.

        The newest message may hold several items. The others stay, each as a message of its own.
        """
        while True:
            try:
                end = await self._end(client, 1)
                if not end.places:
                    return None
                seq, item, _ = end.places[-1]
                rest = [
                    place.item
                    for place in await self._places(
                        client, None, after_seq=seq - 1, through_seq=seq, expected_epoch=end.epoch
                    )
                ][:-1]
                self._has_others = True
                await self._rewind(client, seq - 1, messages_of(rest), **end.expected)
                return item
            except (SequenceConflict, HistoryRewound):
                continue  # another pop was faster

    async def _replace(
        self,
        end: _End,
        start: int,
        output: "Sequence[TResponseInputItem]",
        prune_prefix: "Callable[[Any], bool] | None",
    ) -> bool:
        """Replace all items from `start` on, unless the history has changed since it was read.

        Args:
            end: the end of the history.
            start: index of the first item to replace.
            output: the new items.
            prune_prefix: function that returns whether an item may be removed as well. It is called
                with the oldest item first, until it returns False.

        Returns:
            Whether they were replaced. False if the history has changed, or if the new items are
            too many for one commit.
        """
        seq = end.places[start].seq
        # The first replaced message may also hold items before `start`. They stay.
        before = [place.item for place in end.places[:start] if place.seq == seq]
        messages = messages_of([*before, *output])

        async def call(client: AsyncClient) -> bool:
            to_seq = seq - 1
            if prune_prefix is not None and to_seq:
                kept = await self._unexpired(client, to_seq, end.epoch, prune_prefix)
                # Only the end of a history can be removed, so the kept items are appended again.
                if kept is not None and await self._rewind(
                    client, 0, [*kept, *messages], **end.expected
                ):
                    return True
            return await self._rewind(client, to_seq, messages, **end.expected)

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
    ) -> list[NewMessage] | None:
        """Return the items up to a seq without the oldest ones that may be removed.

        Returns:
            The items. None if none of the oldest items may be removed.
        """
        places = await self._places(client, None, through_seq=through_seq, expected_epoch=epoch)
        items = [place.item for place in places]
        first = next((i for i, item in enumerate(items) if not prune_prefix(item)), len(items))
        return messages_of(items[first:]) if first else None

    async def _rewind(
        self,
        client: AsyncClient,
        to_seq: int,
        messages: list[NewMessage],
        **expected: Any,
    ) -> bool:
        """Remove the items after a seq, and append others, in one commit.

        Returns:
            Whether the history was changed. False if the messages are too many for one commit.
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
            messages = as_other(messages)
            await client.sessions.rewind(self._id, to_seq=to_seq, messages=messages, **expected)
        return True
