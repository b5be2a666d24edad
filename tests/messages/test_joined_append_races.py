"""Appends whose callers give up at the moment when a statement or a wait begins."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sessiond_server.core.errors import Fault
from sessiond_server.core.events import EventPublisher
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.core.limits import Limits
from sessiond_server.db.pool import LockTimeout
from sessiond_server.messages.append import Appends, PreparedAppend
from sessiond_server.messages.joined_append import JoinedAppends
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.waiting_append import WaitingAppend
from sessiond_server.sessions.locked import LockedSessions

from ..support.quotas import unlimited
from ..support.waiting import PATIENCE_S

KEY = uuid.uuid4()
DONE = Appended(1, 1, 0, 1)


def prepared(key: uuid.UUID = KEY) -> PreparedAppend:
    append = SimpleNamespace(
        key=key,
        totals=SimpleNamespace(count=1, content_bytes=1),
        expected_last_seq=None,
        expected_epoch=None,
        request_id="",
        message_ids=(),
        is_plain=True,
    )
    target = SimpleNamespace(session_id="s")
    return cast("PreparedAppend", SimpleNamespace(append=append, target=target, rows=[b""]))


class Database:
    """A fake of the interface that JoinedAppends uses.

    Attributes:
        is_locked: whether another program has locked all sessions.
        alone: number of statements for one append each.
        shared: number of statements for several appends each.
        can_go_on: while it is cleared, statements do not end.
    """

    def __init__(self) -> None:
        self.is_locked = False
        self.alone = self.shared = 0
        self.can_go_on = asyncio.Event()
        self.can_go_on.set()

    async def prepared(self, target: Any, messages: Sequence[Any]) -> PreparedAppend:
        return prepared(target.key)

    async def append_prepared(self, prepared: PreparedAppend) -> Appended:
        self.alone += 1
        await self.can_go_on.wait()
        if self.is_locked:
            raise LockTimeout
        return DONE

    async def append(self, many: Sequence[Sequence[Any]]) -> list[list[Appended] | None]:
        self.shared += 1
        await self.can_go_on.wait()
        return [None if self.is_locked else [DONE] * len(series) for series in many]

    async def until_free(self, key: uuid.UUID) -> bool:
        await asyncio.sleep(0)
        return True

    def messages_appended(self, key: uuid.UUID) -> None:
        pass


@pytest.fixture
async def database() -> Database:
    return Database()


@pytest.fixture
async def joined(database: Database) -> JoinedAppends:
    return JoinedAppends(
        cast("BatchAppendStore", database),
        cast("Appends", database),
        cast("LockedSessions", database),
        Limits(),
        cast("EventPublisher", database),
        unlimited(),
        max_statements=3,
    )


def target(key: uuid.UUID = KEY) -> Any:
    return SimpleNamespace(key=key, project_id=DEFAULT_PROJECT_ID)


async def store(joined: JoinedAppends, key: uuid.UUID = KEY) -> Appended:
    async with asyncio.timeout(PATIENCE_S):
        return await joined.store(target(key), [])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


async def test_a_caller_whose_time_ends_as_its_append_begins_to_wait_blocks_no_other(
    joined: JoinedAppends, database: Database
) -> None:
    database.is_locked = True
    database.can_go_on.clear()
    waiting = joined.submit(prepared())
    joined.dispatch()
    await until(lambda: database.alone == 1)
    # The statement finds the session locked, and in the same round of the event loop the append's
    # timeout expires.
    database.can_go_on.set()
    asyncio.get_running_loop().call_soon(joined.expire, waiting)
    await until(waiting.ended.done)
    assert waiting.ended.exception()
    database.is_locked = False
    assert await store(joined) == DONE


async def test_an_append_whose_time_ends_in_a_statement_that_skips_it_is_refused(
    joined: JoinedAppends, database: Database
) -> None:
    database.can_go_on.clear()
    several = [joined.submit(prepared()) for _ in range(2)]
    joined.dispatch()
    await until(lambda: database.shared == 1)
    joined.expire(several[0])
    assert not several[0].ended.done()
    database.is_locked = True
    database.can_go_on.set()
    await until(several[0].ended.done)
    with pytest.raises(Fault) as caught:
        several[0].ended.result()
    assert caught.value.reason == "SESSION_BUSY"
    database.is_locked = False
    assert await several[1].ended == DONE


async def test_a_caller_that_leaves_as_its_statement_begins_blocks_no_other(
    joined: JoinedAppends, database: Database
) -> None:
    for _ in range(3):
        waiting = joined.submit(prepared())
        joined.dispatch()
        joined.withdraw(waiting)
        await asyncio.sleep(0)
    assert await store(joined) == DONE


async def test_a_session_that_others_lock_again_and_again_is_waited_for_in_line(
    joined: JoinedAppends, database: Database
) -> None:
    """Statements that skip locked rows may never find the row free, so one waits for the lock."""
    database.is_locked = True
    several = [joined.submit(prepared()) for _ in range(3)]
    joined.dispatch()
    await until(lambda: database.shared >= 2 and database.alone >= 1)
    database.is_locked = False
    assert await asyncio.gather(*(one.ended for one in several)) == [DONE] * 3
    assert database.shared == 2


async def test_an_append_waits_only_briefly_for_slow_statements_of_other_sessions(
    joined: JoinedAppends, database: Database
) -> None:
    database.can_go_on.clear()
    slow = [asyncio.create_task(store(joined, uuid.uuid4())) for _ in range(2)]
    await until(lambda: database.alone == 2)
    other = asyncio.create_task(store(joined))
    # The append starts although both slow statements are still running. They may be waiting for
    # locks, so the append is stored by the statement that skips locked sessions.
    await until(lambda: database.shared == 1)
    assert database.alone == 2
    database.can_go_on.set()
    assert await asyncio.gather(other, *slow) == [DONE] * 3


async def test_an_append_alone_starts_no_task_and_no_timer(
    joined: JoinedAppends, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    started: list[str] = []
    for name in ("call_at", "create_task"):
        monkeypatch.setattr(loop, name, lambda *_args, name=name, **_: started.append(name))
    result = await joined.store(target(), [])
    monkeypatch.undo()
    assert (result, started) == (DONE, [])


def batch() -> list[PreparedAppend]:
    return [prepared(uuid.uuid4()) for _ in range(3)]


async def test_a_batch_is_one_statement_even_while_others_run(
    joined: JoinedAppends, database: Database
) -> None:
    database.can_go_on.clear()
    batches = [asyncio.create_task(joined.store_whole(batch())) for _ in range(3)]
    await asyncio.sleep(0)
    assert (database.alone, database.shared) == (0, 3)
    # The maximum number of statements is running, so a further batch waits in the queues.
    assert await joined.store_whole(batch()) is None
    database.can_go_on.set()
    assert await asyncio.gather(*batches) == [[DONE] * 3] * 3
    assert not joined._busy
    assert joined._statements.free == 3


async def test_a_batch_with_a_session_that_is_being_stored_goes_into_the_queues(
    joined: JoinedAppends, database: Database
) -> None:
    database.can_go_on.clear()
    first = asyncio.create_task(joined.store(target(), []))
    await asyncio.sleep(0)
    assert await joined.store_whole([prepared(), *batch()]) is None
    other = uuid.uuid4()
    assert await joined.store_whole([prepared(other), prepared(other)]) is None
    database.can_go_on.set()
    assert await first == DONE


async def test_what_a_batch_could_not_store_waits_and_is_stored_alone(
    joined: JoinedAppends, database: Database
) -> None:
    database.is_locked = True
    ends = await joined.store_whole(batch())
    assert ends
    assert database.shared == 1
    database.is_locked = False
    waiting = [end for end in ends if isinstance(end, WaitingAppend)]
    assert len(waiting) == 3
    assert await asyncio.gather(*(one.ended for one in waiting)) == [DONE] * 3


async def test_a_batch_whose_caller_leaves_frees_its_sessions(
    joined: JoinedAppends, database: Database
) -> None:
    database.can_go_on.clear()
    caller = asyncio.create_task(joined.store_whole([prepared(), *batch()]))
    await asyncio.sleep(0)
    waiting = joined.submit(prepared())
    joined.dispatch()
    assert database.alone == 0
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    database.can_go_on.set()
    assert await waiting.ended == DONE
    assert not joined._busy
