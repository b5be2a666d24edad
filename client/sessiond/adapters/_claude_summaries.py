"""Appends to transcripts of Claude Code, with the summaries that the SDK folds from their entries.

The session's state keeps a summary with the seq of the last entry that it covers, in the form
{"epoch": ..., "seq": ..., "data": ...}. `data` is null if the summary was too large to keep. The
SDK then reads the entries.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sessiond._async._client import AsyncClient
from sessiond._requests.input import NewMessage
from sessiond._requests.options import SessionSettings
from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import append, collected, encoded, message_id
from sessiond.adapters._claude_entries import FORMAT_NAME, converted, linked, own_entry
from sessiond.adapters._history import Item, read_items
from sessiond.errors import (
    HistoryRewound,
    MessageAlreadyExists,
    MessageNotFound,
    SequenceConflict,
    SessiondError,
    SessionNotFound,
)

try:
    from claude_agent_sdk import fold_session_summary
except ImportError as error:
    raise ImportError(
        "sessiond.adapters.claude_agent_sdk needs the Claude Agent SDK: "
        'pip install "sessiond[claude-agent-sdk]"'
    ) from error

if TYPE_CHECKING:
    from claude_agent_sdk import SessionKey, SessionStoreEntry, SessionSummaryEntry

_SUMMARY = "claude_summary"
_MAX_SUMMARY_BYTES = 256 * 1024
# A conflict means that another process has appended. After this many in a row, give up.
_MAX_ATTEMPTS = 50
# Above this number of uuids, reading the whole transcript is faster than looking each of them up.
_MAX_LOOKUPS = 64
# Maximum number of transcripts whose ends a store remembers.
_MAX_REMEMBERED = 1_000

NewEntry: TypeAlias = tuple[NewMessage, "SessionStoreEntry"]


class _End(NamedTuple):
    """The end of a transcript, and its summary; None = the summary was too large to keep."""

    last_seq: int
    epoch: int
    summary: "SessionSummaryEntry | None"


class Ends:
    """Remembers where transcripts end, so that an append need not read the summary first.

    A remembered end may be out of date; the server then refuses the append. One case is not
    detected: another process deletes the transcript, and appends the same number of entries to a
    new one. The summary then covers the deleted entries.
    """

    def __init__(self) -> None:
        self._ends: OrderedDict[str, _End] = OrderedDict()

    def put(self, session_id: str, end: _End) -> None:
        """Remember an end, and forget the oldest if there are too many."""
        self._ends[session_id] = end
        self._ends.move_to_end(session_id)
        if len(self._ends) > _MAX_REMEMBERED:
            self._ends.popitem(last=False)

    def take(self, session_id: str) -> _End | None:
        """Return a remembered end, and forget it."""
        return self._ends.pop(session_id, None)


def new_entries(entries: Sequence["SessionStoreEntry"]) -> list[NewEntry]:
    """Return the entries with their messages, each uuid once."""
    new: list[NewEntry] = []
    ids: set[str] = set()
    for i, entry in enumerate(entries):
        uuid = entry.get("uuid")
        id = message_id(uuid) if isinstance(uuid, str) and uuid else None
        if id is not None:
            if id in ids:
                continue
            ids.add(id)
        blob = encoded(entry, f"entries[{i}]")
        message = NewMessage(blob, format="other", format_name=FORMAT_NAME, message_id=id)
        new.append((message, entry))
    return new


async def append_with_summary(
    client: AsyncClient,
    session_id: str,
    key: "SessionKey",
    new: list[NewEntry],
    create: SessionSettings,
    ends: Ends,
) -> None:
    """Append entries, and fold them into the summary, in one commit.

    The server refuses the append if the history does not end where the summary ends. So concurrent
    appends fold their entries one after another, without missing any.
    """
    conflict: SessiondError
    for attempt in range(_MAX_ATTEMPTS):
        end = ends.take(session_id) or await _end(client, session_id, key)
        folded = _fold(end.summary, key, [entry for _, entry in new])
        data = _small(folded)
        place = {"epoch": end.epoch, "seq": end.last_seq + len(new), "data": data}
        try:
            stored = await append(
                client,
                session_id,
                [message for message, _ in new],
                expected_last_seq=end.last_seq,
                expected_epoch=end.epoch,
                state={_SUMMARY: place},
                # A session with messages exists, so its settings need not be sent.
                create=None if end.last_seq else create,
            )
            ends.put(session_id, _End(stored.last_seq, end.epoch, None if data is None else folded))
            return
        except MessageAlreadyExists as error:
            conflict = error
            known = await _known_ids(client, session_id, new)
            new = [(message, entry) for message, entry in new if message.message_id not in known]
            if not new:
                return
        except (SequenceConflict, HistoryRewound, SessionNotFound) as error:
            conflict = error
            await asyncio.sleep(random.uniform(0, 0.01 * min(attempt, 10)))  # noqa: S311
    raise conflict


async def _end(client: AsyncClient, session_id: str, key: "SessionKey") -> _End:
    try:
        info = await client.sessions.get(session_id)
        return _End(info.last_seq, info.epoch, await _current_summary(client, key, info))
    except SessionNotFound:
        return _End(0, 0, _empty_summary(key))


async def _known_ids(client: AsyncClient, session_id: str, new: list[NewEntry]) -> set[str]:
    """Return the message_ids of those entries of `new` that the session has already.

    The result may contain further message_ids of the session.
    """
    wanted = [message.message_id for message, _ in new if message.message_id]
    if len(wanted) > _MAX_LOOKUPS:
        messages = client.sessions.get_messages(session_id)
        return {message.message_id async for message in messages if message.message_id}

    async def found(id: str) -> bool:
        try:
            await client.sessions.get_message(session_id, message_id=id)
        except (MessageNotFound, SessionNotFound):
            return False
        return True

    are_found = await asyncio.gather(*map(found, wanted))
    return {id for id, is_found in zip(wanted, are_found, strict=True) if is_found}


async def _current_summary(
    client: AsyncClient, key: "SessionKey", info: SessionInfo
) -> "SessionSummaryEntry | None":
    """Return the summary of all entries of a session.

    Entries that another program has appended are not folded yet: they are read and folded here.

    Returns:
        The summary. None = the summary was too large to keep.
    """
    kept = (info.state or {}).get(_SUMMARY) or {"epoch": info.epoch, "seq": 0, "data": {}}
    summary: SessionSummaryEntry | None = None
    if kept["data"] is not None:
        summary = {"session_id": key["session_id"], "mtime": 0, "data": kept["data"]}
    seq = kept["seq"]
    if kept["epoch"] != info.epoch or seq > info.last_seq:
        # Entries were removed by a rewind, so all remaining entries are folded again.
        summary, seq = _empty_summary(key), 0
    if seq < info.last_seq and summary is not None:
        unseen = await read_entries(client, info.session_id, key, seq, info.last_seq)
        summary = _fold(summary, key, unseen)
    return summary


def _fold(
    prev: "SessionSummaryEntry | None", key: "SessionKey", entries: Sequence[Any]
) -> "SessionSummaryEntry | None":
    if prev is None:
        return None
    folded: SessionSummaryEntry = fold_session_summary(prev, key, list(entries))
    return folded


def _empty_summary(key: "SessionKey") -> "SessionSummaryEntry":
    return {"session_id": key["session_id"], "mtime": 0, "data": {}}


def _small(summary: "SessionSummaryEntry | None") -> Item | None:
    """Return the data of a summary; None if it is too large, e.g. if a prompt is a whole book.

    Without a summary, the SDK reads the entries.
    """
    if summary is None or len(encoded(summary["data"], "summary")) > _MAX_SUMMARY_BYTES:
        return None
    data: Item = summary["data"]
    return data


def kept_summary(info: SessionInfo) -> Item | None:
    """Return the data of the stored summary; None if it does not cover all entries."""
    kept = (info.state or {}).get(_SUMMARY)
    if not kept or (kept["epoch"], kept["seq"]) != (info.epoch, info.last_seq):
        return None
    data: Item | None = kept["data"]
    return data


async def read_entries(
    client: AsyncClient,
    session_id: str,
    key: "SessionKey",
    after_seq: int = 0,
    through_seq: int | None = None,
) -> list[Item]:
    """Return the entries with after_seq < seq <= through_seq. Default: all entries."""
    # Nearly all transcripts have only the SDK's own entries.
    messages = client.sessions.get_messages(
        session_id, after_seq=after_seq, through_seq=through_seq
    )
    found = await collected(messages, own_entry)
    own = [entry for entry in found if entry is not None]
    if len(own) == len(found):
        return own
    places = await read_items(
        client,
        session_id,
        own_entry,
        converted,
        after_seq=after_seq,
        through_seq=through_seq,
    )
    last: Item | None = None
    if after_seq and places and not places[0].is_own:
        before = await read_entries(client, session_id, key, through_seq=after_seq)
        last = next((e for e in reversed(before) if e.get("uuid")), None)
    return linked(places, key["session_id"], last)
