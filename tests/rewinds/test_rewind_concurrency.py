"""Rewinds concurrent with all other calls that lock a session, at two servers."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable

import grpc
import pytest

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest
from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest, UpdateTaskRequest
from sessiond_server.server import Running

from ..conftest import purger_of
from ..copies.helpers import Query
from ..support.queues import ack, lease
from ..support.wire import Wire, taken_apart

# The reasons of errors that callers may receive while others change the history.
EXPECTED = {
    "MESSAGE_NOT_FOUND",
    "HISTORY_REWOUND",
    "SEQUENCE_CONFLICT",
    "LEASE_LOST",
    "PARENT_NOT_FOUND",
    "INVALID_FIELD",  # an acknowledgement of messages that now belong to another lease
}
ORPHANS = """
SELECT count(*) FROM messages AS m
WHERE NOT EXISTS (
        SELECT FROM sessions AS s WHERE s.key = m.key AND COALESCE(s.message_log, s.log) = m.log
    )
    AND NOT EXISTS (
        SELECT FROM segments AS g
        WHERE g.src_key = m.key AND g.src_log = m.log AND m.seq BETWEEN g.first_seq AND g.last_seq
    )"""


async def test_concurrent_changes_leave_a_whole_history(
    wire: Wire, other: Wire, server: Running, query: Query
) -> None:
    await wire.create("s")
    await wire.store("s", *["x"] * 20)
    await wire.tasks.CreateTask(CreateTaskRequest(session_id="s", task=Task(task_id="t")))
    outcomes: Counter[str] = Counter()
    is_done = asyncio.Event()

    async def attempt(call: Awaitable[object]) -> None:
        try:
            await call
            outcomes["done"] += 1
        except grpc.aio.AioRpcError as error:
            outcomes[taken_apart(error).reason] += 1

    async def work_queue(at: Wire) -> None:
        for leased in await lease(at, max_messages=5):
            await ack(at, leased)

    async def change(number: int) -> None:
        chance = random.Random(number)
        for step in range(40):
            at = chance.choice([wire, other])
            last_seq = (await at.get("s")).last_seq
            seq = chance.randint(0, last_seq + 1)
            match chance.randrange(8):
                case 0 | 1:
                    await attempt(at.store("s", *["y"] * chance.randint(1, 4)))
                case 2:
                    await attempt(at.rewind("s", drop_last=chance.randint(1, 3), return_removed=3))
                case 3:
                    await attempt(at.rewind("s", "z", to_seq=seq))
                case 4:
                    await attempt(at.copy("s", f"c{number}-{step}", up_to_seq=seq))
                case 5:
                    mark = Bookmark(name=f"b{number}", seq=seq)
                    request = CreateBookmarkRequest(session_id="s", bookmark=mark, replace=True)
                    await attempt(at.bookmarks.CreateBookmark(request))
                case 6:
                    task = Task(task_id="t", message_seqs=[max(seq, 1)])
                    await attempt(at.tasks.UpdateTask(UpdateTaskRequest(session_id="s", task=task)))
                case _:
                    await attempt(work_queue(at))

    async def purge() -> None:
        purger = purger_of(server)
        while not is_done.is_set():
            await purger.round()

    purging = asyncio.create_task(purge())
    await asyncio.gather(*(change(number) for number in range(8)))
    is_done.set()
    await purging
    assert outcomes.keys() <= EXPECTED | {"done"}, outcomes
    session, messages = await wire.get("s"), await wire.read("s")
    assert [message.seq for message in messages] == list(range(1, session.last_seq + 1))
    assert session.content_bytes == sum(message.content_bytes for message in messages)
    assert session.token_count == sum(message.token_count for message in messages)
    dangling = "SELECT count(*) FROM bookmarks JOIN sessions USING (key) WHERE seq > last_seq"
    assert query(dangling) == [(0,)]
    await purger_of(server).round()
    assert query(ORPHANS) == [(0,)]


@pytest.mark.parametrize("length", [10, 5000])
async def test_a_rewind_writes_few_rows(wire: Wire, query: Query, length: int) -> None:
    await wire.create("s")
    for _ in range(0, length, 1000):
        await wire.store("s", *["x"] * min(length, 1000))
    names = ["sessions", "segments", "dead_logs", "rewinds", "requests", "messages"]
    count = " + ".join(f"(SELECT count(*) FROM {name})" for name in names)
    [(rows,)] = query(f"SELECT {count}")
    await wire.rewind("s", to_seq=length // 2, request_id="r")
    [(rows_after,)] = query(f"SELECT {count}")
    # New rows: a segment, a dead log, the cut, the request. The session's row is only updated.
    assert rows_after - rows == 4
