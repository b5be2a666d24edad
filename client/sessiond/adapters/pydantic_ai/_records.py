"""The record of a conversation, kept in the state of its session."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic_ai import Conversation, ConversationTypeAdapter
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_ai.exceptions import UserError

from sessiond._async._client import AsyncClient
from sessiond._types.session import SessionInfo
from sessiond.adapters.pydantic_ai._entries import entry_id, has_entry
from sessiond.errors import MessageNotFound

KEY = "pydantic_ai"
"""A key of the session's state. Its value is an object with these keys:

- session_id: the session for which the record was written. A copy's state has the source's id.
- record: the record of the conversation.
- head_seq: the seq of the record's head.
- last_seq, epoch: those of the session when the record was written.
"""

DELETED = {"is_deleted": True}
"""Stands in the place of a record when the session is about to be deleted. Such a session holds no
conversation."""

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A conversation as it was read, with the values that a change must find unchanged.

    Attributes:
        info: the session; None = there is none.
        record: the record; None = the session holds no conversation.
        head_seq: seq of the record's head. 0 = it has none.
        is_deleted: whether the session is about to be deleted.
    """

    info: SessionInfo | None = None
    record: ConversationRecord | None = None
    head_seq: int = 0
    is_deleted: bool = False

    @property
    def revision(self) -> str | None:
        """The revision of the conversation; None = there is none."""
        return None if self.record is None else self.record.revision


def kept_state(
    session_id: str, record: ConversationRecord, head_seq: int, last_seq: int, epoch: int
) -> dict[str, Any]:
    """Return the state that keeps a record.

    Args:
        session_id: the session.
        record: the record.
        head_seq: seq of its head.
        last_seq: the session's last_seq after the change.
        epoch: the session's epoch after the change.
    """
    place = {"head_seq": head_seq, "last_seq": last_seq, "epoch": epoch}
    return {KEY: {"session_id": session_id, "record": _dumped(record), **place}}


async def place_of(client: AsyncClient, info: SessionInfo, conversation_id: str) -> Place:
    """Return the conversation that a session holds.

    If others have changed the history since the record was written, the conversation ends with the
    session's newest message, and has a new revision. So a conversation that was loaded earlier
    cannot be saved over their changes.
    """
    kept = (info.state or {}).get(KEY)
    if kept == DELETED:
        return Place(info, is_deleted=True)
    record = None if kept is None else _loaded(kept["record"])
    is_own = kept is not None and kept["session_id"] == info.session_id
    if kept is not None and is_own and _is_end(kept, info):
        return Place(info, record, kept["head_seq"])
    if info.last_seq == 0 and record is None:
        return Place(info)
    if record is None:
        record = ConversationRecord(
            conversation_id=conversation_id,
            head_id=None,
            scope=info.user or None,
            revision="sessiond",
            updated_at=info.active_at,
        )
    elif not is_own:
        # The session is a copy, whose state still has the source's record.
        record = replace(
            record,
            conversation_id=conversation_id,
            forked_from=record.conversation_id,
            forked_at=record.head_id,
        )
    created = round(info.created_at.timestamp() * 1_000_000)
    record = replace(
        record,
        revision=f"{record.revision}:{created}:{info.epoch}:{info.last_seq}",
    )
    record, head_seq = await _continued(client, info, record, kept)
    return Place(info, record, head_seq)


async def _continued(
    client: AsyncClient, info: SessionInfo, record: ConversationRecord, kept: dict[str, Any] | None
) -> tuple[ConversationRecord, int]:
    """Return a record whose head is the newest message, and the seq of that message."""
    session_id, old_head = info.session_id, record.head_id
    head_id, head_seq = None, 0
    newest = client.sessions.get_messages(
        session_id, branch_of=info.last_seq or None, order="desc", expected_epoch=info.epoch
    )
    async for message in newest:
        if await has_entry(client, message):
            head_id, head_seq = entry_id(message), message.seq
            break
    if kept is None:
        return replace(record, head_id=head_id), head_seq
    tips = [*record.branches]
    if old_head is not None and old_head not in tips:
        tips.append(old_head)
    left = await _left(client, info, tips, head_seq)
    # Deferred calls belong to the head.
    deferred = record.deferred_tool_requests if head_id == old_head else None
    record = replace(record, head_id=head_id, branches=left, deferred_tool_requests=deferred)
    return record, head_seq


async def _left(
    client: AsyncClient, info: SessionInfo, tips: Sequence[str], head_seq: int
) -> list[str]:
    """Return the `tips` (ids of the last entries of branches) that remain the ends of branches.

    An entry is left out if the session no longer has it, or if it is on the path to the head.
    """
    if not tips:
        return []
    path = {
        message.seq
        async for message in client.sessions.get_messages(
            info.session_id,
            branch_of=head_seq or None,
            view="basic",
            expected_epoch=info.epoch,
        )
    }
    found = []
    for tip in tips:
        try:
            message = await client.sessions.get_message(info.session_id, message_id=tip)
        except MessageNotFound:
            continue
        if message.seq not in path:
            found.append(tip)
    return found


def _is_end(kept: dict[str, Any], info: SessionInfo) -> bool:
    return (kept["last_seq"], kept["epoch"]) == (info.last_seq, info.epoch)


def _dumped(record: ConversationRecord) -> dict[str, Any]:
    # The texts do not pass through Pydantic, which refuses lone surrogates.
    carried = ConversationTypeAdapter.dump_python(
        Conversation(
            conversation_id="",
            usage=record.usage,
            deferred_tool_requests=record.deferred_tool_requests,
        ),
        mode="json",
        include={"usage", "deferred_tool_requests"},
    )
    return {
        **carried,
        "conversation_id": record.conversation_id,
        "head_id": record.head_id,
        "scope": record.scope,
        "forked_from": record.forked_from,
        "forked_at": record.forked_at,
        "branches": record.branches,
        "revision": record.revision,
        "updated_at": record.updated_at.isoformat(),
        "format_version": record.format_version,
    }


def _loaded(kept: dict[str, Any]) -> ConversationRecord:
    version = kept["format_version"]
    if version != _VERSION:
        raise UserError(
            f"The conversation {kept['conversation_id']!r} was saved in the format {version}; this "
            f"version of the adapter reads {_VERSION}. Update sessiond."
        )
    carried = ConversationTypeAdapter.validate_json(
        json.dumps(
            {
                "usage": kept["usage"],
                "deferred_tool_requests": kept["deferred_tool_requests"],
                "conversation_id": "",
            }
        )
    )
    return ConversationRecord(
        conversation_id=kept["conversation_id"],
        head_id=kept["head_id"],
        usage=carried.usage,
        deferred_tool_requests=carried.deferred_tool_requests,
        scope=kept["scope"],
        forked_from=kept["forked_from"],
        forked_at=kept["forked_at"],
        branches=kept["branches"],
        revision=kept["revision"],
        updated_at=datetime.fromisoformat(kept["updated_at"]),
    )
