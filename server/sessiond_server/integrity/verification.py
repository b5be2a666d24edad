"""Checks everything that is stored, and reports damage.

Servers may go on serving: a batch of sessions is read in one snapshot, and an asset that looks
damaged is checked again.
"""

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import groupby

from sessiond_server.assets.store.objects import ObjectMissing, Objects, ObjectStoreUnavailable
from sessiond_server.integrity.store.checks import (
    Batch,
    IntegrityStore,
    SessionShape,
    StoredAsset,
    StoredRange,
)
from sessiond_server.integrity.store.faults import FaultKind

SESSIONS_A_BATCH = 500
ASSETS_A_BATCH = 500

SENTENCES = {
    FaultKind.MESSAGE_BEYOND: "message {seq} is stored beyond its last seq",
    FaultKind.BOOKMARK_ASTRAY: "bookmark {name!r} is at seq {seq}, where there is no message",
    FaultKind.TURN_MISSING: "its running turn {running_turn} is not in the database",
    FaultKind.TASK_ASTRAY: "task {task_id!r} is linked to seq {seq}, where there is no message",
    FaultKind.TASKS_UNORDERED: "the positions of its {tasks} tasks are not 1 to {tasks}",
    FaultKind.ID_ASTRAY: "message_id {message_id!r} names seq {seq}, where there is no message",
    FaultKind.ID_WRONG: "message_id {message_id!r} names message {seq}, which has another "
    "message_id",
    FaultKind.ID_REPEATED: "message_id {message_id!r} names both message {first} and {last}",
    FaultKind.PARENT_ASTRAY: "seq {seq} has a parent, but there is no message",
    FaultKind.PARENT_LATER: "message {seq} has the parent {parent_seq}, which is not before it",
    FaultKind.BRANCHES_HIDDEN: "message {seq} begins a branch, but its row says that there is none",
    FaultKind.QUEUE_AHEAD: "queue {queue!r} is done up to seq {seq}, where there is no message",
}


@dataclass(slots=True)
class Seen:
    """Counts of the objects that were checked."""

    sessions: int = 0
    messages: int = 0
    assets: int = 0
    asset_bytes: int = 0


async def problems(
    store: IntegrityStore, objects: Objects, seen: Seen, *, reads_assets: bool
) -> AsyncGenerator[str, None]:
    """Yield a sentence for each problem.

    Args:
        store: the database.
        objects: the store of the assets' content.
        seen: the counts, which are increased.
        reads_assets: whether the content of the assets is read and hashed.
    """
    async with aclosing(store.batches(SESSIONS_A_BATCH)) as batches:
        async for batch in batches:
            seen.sessions += len(batch.sessions)
            for problem in _of_sessions(batch, seen):
                yield problem
    for key, seq, asset_id in await store.dangling_references():
        yield f"message {seq} of session key {key} refers to asset {asset_id}, which is missing"
    if reads_assets:
        async with aclosing(store.assets(ASSETS_A_BATCH)) as assets:
            async for asset in assets:
                seen.assets += 1
                seen.asset_bytes += asset.size
                problem = await _of_asset(asset, objects)
                # The asset may have been removed, or uploaded again, since its row was read.
                if problem and await store.has(asset):
                    yield f"asset {asset.sha256.hex()}: {problem}"


def _of_sessions(batch: Batch, seen: Seen) -> list[str]:
    ranges = {key: list(found) for key, found in groupby(batch.ranges, lambda range_: range_.key)}
    names = {session.key: session.session_id for session in batch.sessions}
    found: list[str] = []
    for session in batch.sessions:
        own = ranges.get(session.key, [])
        seen.messages += sum(range_.messages for range_ in own)
        found += [f"session {session.session_id!r}: {text}" for text in _of_session(session, own)]
    found += [
        f"session {names[fault.key]!r}: {SENTENCES[fault.kind].format(**fault.values)}"
        for fault in batch.faults
    ]
    return found


def _of_session(session: SessionShape, ranges: list[StoredRange]) -> list[str]:
    found = []
    expected = 1
    for range_ in ranges:
        if range_.first_seq != expected:
            found.append(f"no segment holds seqs {expected} to {range_.first_seq - 1}")
        expected = range_.last_seq + 1
        wanted = range_.last_seq - range_.first_seq + 1
        if range_.messages != wanted:
            found.append(
                f"of seqs {range_.first_seq} to {range_.last_seq}, {wanted - range_.messages} "
                "messages are missing"
            )
    if expected != session.last_seq + 1:
        found.append(
            f"its messages end at seq {expected - 1}, but its last seq is {session.last_seq}"
        )
    content_bytes = sum(range_.content_bytes for range_ in ranges)
    if not found and content_bytes != session.content_bytes:
        found.append(
            f"its messages have {content_bytes} bytes, but its row says {session.content_bytes}"
        )
    return found


async def _of_asset(asset: StoredAsset, objects: Objects) -> str:
    digest, size = hashlib.sha256(), 0
    try:
        async with aclosing(objects.get(asset.object_key, 0, asset.size)) as pieces:
            async for piece in pieces:
                digest.update(piece)
                size += len(piece)
    except ObjectMissing:
        return "its content is missing"
    except ObjectStoreUnavailable as e:
        return f"its content cannot be read: {str(e).partition(chr(10))[0][:200]}"
    if digest.digest() != asset.sha256:
        return "its content is not what was uploaded"
    return ""
