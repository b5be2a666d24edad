"""The processing queues under concurrent calls."""

import asyncio
import random
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from sessiond.v1 import processing_service_pb2 as pb
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.db.pool import LockTimeout
from sessiond_server.queues.store.mutexes import ProjectMutexes

from ..support.locks import LOCKS_LAST
from ..support.queues import (
    Query,
    ack,
    counts,
    fill,
    lease,
    lease_one,
    ranges,
    requeue,
    run_out,
)
from ..support.waiting import PATIENCE_S, until_async, until_waiting
from ..support.wire import Wire


class TestRaces:
    """Concurrent calls, in many rounds, so that their order differs."""

    async def test_an_append_with_the_last_acknowledgement_is_not_lost(self, wire: Wire) -> None:
        await wire.create("one")
        seen = 0
        for round_ in range(300):
            await wire.store("one", "x")
            leased = await lease_one(wire)
            assert ranges(leased)[0][0] == seen + 1
            together: list[Any] = [ack(wire, leased), wire.store("one", "y")]
            if round_ % 2:
                together.append(lease(wire, "other"))
            random.Random(round_).shuffle(together)
            found = await asyncio.gather(*together)
            for others in found:
                for other in others if isinstance(others, list) else []:
                    await ack(wire, other)
            seen = ranges(leased)[-1][1]
            leased = await lease_one(wire)
            assert ranges(leased) == [(seen + 1, (await wire.get("one")).last_seq)]
            await ack(wire, leased)
            assert await lease(wire) == []
            seen = ranges(leased)[-1][1]

    @LOCKS_LAST
    async def test_an_acknowledgement_sees_a_distribution_before_its_lock(
        self, wire: Wire, database_url: str
    ) -> None:
        """The distribution locks a ready row, and does not change it. The acknowledgement waits."""
        await fill(wire)
        leased = await lease_one(wire)
        with psycopg.connect(database_url) as distributor:
            distributor.execute("SELECT * FROM processing FOR UPDATE")
            acknowledging = asyncio.create_task(ack(wire, leased))
            await until_waiting(database_url)
            await wire.store("one", "x")
            distributor.execute("UPDATE sessions SET has_news = false")
        await acknowledging
        assert ranges(await lease_one(wire)) == [(11, 11)]

    async def test_an_append_with_a_lease_that_finds_nothing_is_not_lost(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire, count=1)
        await ack(wire, await lease_one(wire))
        for _ in range(100):
            # Mark the row ready although it has no messages, so that the lease resets the mark.
            query("UPDATE processing SET is_ready = true")
            taken, _, more = await asyncio.gather(lease(wire), wire.store("one", "x"), lease(wire))
            taken = [*taken, *more] or await lease(wire)
            assert len(taken) == 1
            await ack(wire, taken[0])
            # The append may be later than the lease.
            for rest in await lease(wire):
                await ack(wire, rest)
            last_seq = (await wire.get("one")).last_seq
            assert await counts(wire) == (0, 0, last_seq, 0)

    async def test_every_message_comes_once_and_to_one_worker_a_session(self, wire: Wire) -> None:
        """Writers append while workers of two queues acknowledge parts of their leases."""
        sessions = [f"s{i}" for i in range(12)]
        for name in sessions:
            await wire.create(name)
        at_work: set[tuple[str, str]] = set()
        seen: dict[tuple[str, str], list[int]] = {
            (queue, name): [] for queue in ("a", "b") for name in sessions
        }
        writing = 0

        async def write(number: int) -> None:
            nonlocal writing
            writing += 1
            rng = random.Random(number)
            for _ in range(30):
                await wire.store(rng.choice(sessions), *["x"] * rng.randint(1, 5))
            writing -= 1

        async def work(queue: str, number: int) -> None:
            rng = random.Random(number)
            idle = 0
            while writing or idle < 3:
                leases = await lease(
                    wire, queue, max_sessions=rng.randint(1, 4), max_messages=rng.randint(1, 20)
                )
                idle = 0 if leases else idle + 1
                for one in leases:
                    assert (queue, one.session_id) not in at_work
                    at_work.add((queue, one.session_id))
                for one in leases:
                    [(first, last)] = ranges(one)
                    through = rng.choice([None, first, (first + last) // 2])
                    seen[queue, one.session_id] += range(
                        first, (last if through is None else through) + 1
                    )
                    at_work.discard((queue, one.session_id))
                    await ack(wire, one, through)

        await asyncio.gather(
            *(write(i) for i in range(6)), *(work(queue, i) for queue in "ab" for i in range(4))
        )
        for queue in "ab":
            for name in sessions:
                last_seq = (await wire.get(name)).last_seq
                assert seen[queue, name] == list(range(1, last_seq + 1))
            pending, running, success, _ = await counts(wire, "", queue)
            assert (pending, running) == (0, 0)
            assert success

    async def test_a_queue_created_during_a_distribution_has_every_session(
        self, wire: Wire
    ) -> None:
        for round_ in range(20):
            names = [f"{round_}-{i}" for i in range(5)]
            await asyncio.gather(*(fill(wire, name, 1) for name in names))
            made: list[Any] = await asyncio.gather(
                lease(wire, "first", max_sessions=100),
                *(lease(wire, f"new{i}", max_sessions=100) for i in range(3)),
                *(wire.store(name, "y") for name in names),
            )
            for i, leases in enumerate(made[1:4]):
                found = {one.session_id for one in leases}
                while more := await lease(wire, f"new{i}", max_sessions=100):
                    found |= {one.session_id for one in more}
                assert found == {f"{r}-{j}" for r in range(round_ + 1) for j in range(5)}
            for i in range(3):
                await wire.processing.DeleteQueue(pb.DeleteQueueRequest(queue=f"new{i}"))
            for one in made[0]:
                await ack(wire, one)

    @LOCKS_LAST
    async def test_a_registration_waits_for_a_distribution(
        self, wire: Wire, database_url: str
    ) -> None:
        """The distribution has cleared has_news, and commits after the registration has begun."""
        await lease(wire, "old")
        await fill(wire)
        with psycopg.connect(database_url) as distributor:
            lock = "SELECT pg_advisory_xact_lock(hashtextextended('queues of ' || %s::text, 0))"
            distributor.execute(lock, [DEFAULT_PROJECT_ID])
            distributor.execute("UPDATE sessions SET has_news = false")
            registering = asyncio.create_task(lease(wire, "new"))
            await until_waiting(database_url)
        assert [one.session_id for one in await registering] == ["one"]

    @LOCKS_LAST
    async def test_leases_that_wait_for_a_distribution_share_one_connection(
        self, wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The pool has 8 connections, and none of the leases gives up."""
        entered, held = 0, ProjectMutexes.held

        def counted(self: ProjectMutexes, project_id: UUID) -> AbstractAsyncContextManager[None]:
            nonlocal entered
            entered += 1
            return held(self, project_id)

        monkeypatch.setattr(ProjectMutexes, "held", counted)
        await lease(wire, "old")
        await fill(wire)
        entered = 0
        with psycopg.connect(database_url) as distributor:
            lock = "SELECT pg_advisory_xact_lock(hashtextextended('queues of ' || %s::text, 0))"
            distributor.execute(lock, [DEFAULT_PROJECT_ID])
            leases = [asyncio.create_task(lease(wire, f"q{i % 8}")) for i in range(40)]
            await until_async(lambda: entered == len(leases), "all leases need the lock")
            await until_waiting(database_url, 1)
        taken = [one.queue for some in leases for one in await some]
        assert sorted(taken) == [f"q{i}" for i in range(8)]

    async def test_a_lock_that_one_lease_did_not_get_is_not_waited_for_by_the_next(self) -> None:
        mutexes, project, first = ProjectMutexes(), uuid4(), asyncio.Event()

        async def times_out() -> None:
            async with mutexes.held(project):
                await first.wait()
                raise LockTimeout

        async def never_runs() -> None:
            async with mutexes.held(project):
                raise AssertionError

        tasks = [asyncio.create_task(one) for one in (times_out(), never_runs(), never_runs())]
        await asyncio.sleep(0)
        first.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(end) for end in ends] == [LockTimeout] * 3
        async with asyncio.timeout(PATIENCE_S), mutexes.held(project):
            pass  # later calls try the lock again

    async def test_a_lease_that_comes_second_waits_for_the_distribution(self, wire: Wire) -> None:
        for round_ in range(30):
            await asyncio.gather(*(fill(wire, f"{round_}-{i}", 1) for i in range(4)))
            found = await asyncio.gather(*(lease(wire) for _ in range(4)))
            assert sum(map(len, found)) == 4

    async def test_a_lease_that_was_taken_over_is_acknowledged_once(
        self, wire: Wire, query: Query
    ) -> None:
        await fill(wire, count=1)
        for _ in range(40):
            old = await lease_one(wire)
            run_out(query)
            results = await asyncio.gather(ack(wire, old), lease(wire), return_exceptions=True)
            if isinstance(results[0], BaseException):
                assert isinstance(results[1], list)
                await ack(wire, results[1][0])
            else:
                assert results[1] == []
            assert await counts(wire) == (0, 0, (await wire.get("one")).last_seq, 0)
            await wire.store("one", "x")

    async def test_requeues_among_leases_and_acknowledgements_lose_nothing(
        self, wire: Wire
    ) -> None:
        await fill(wire, count=50)
        await ack(wire, await lease_one(wire), 0)

        async def work(number: int) -> None:
            rng = random.Random(number)
            for _ in range(40):
                for one in await lease(wire, max_messages=rng.randint(1, 30)):
                    seqs = [seq for first, last in ranges(one) for seq in range(first, last + 1)]
                    some = rng.sample(seqs, len(seqs) // 3)
                    results = await asyncio.gather(
                        ack(wire, one, failures=dict.fromkeys(some, "e")), return_exceptions=True
                    )
                    assert results[0] is None or "LEASE_LOST" in str(results[0])

        async def put_back(number: int) -> None:
            rng = random.Random(number)
            for _ in range(25):
                match rng.randrange(3):
                    case 0:
                        await requeue(wire, failed=True)
                    case 1:
                        await requeue(wire, from_seq=rng.randint(1, 50))
                    case _:
                        await requeue(wire, seqs=rng.sample(range(1, 51), 10))
                await counts(wire)

        await asyncio.gather(*(work(i) for i in range(4)), *(put_back(i) for i in range(2)))
        await requeue(wire, failed=True)
        while leases := await lease(wire):
            await ack(wire, leases[0])
        assert await counts(wire) == (0, 0, 50, 0)

    async def test_deletions_among_leases_and_acknowledgements_leave_nothing(
        self, wire: Wire
    ) -> None:
        async def churn(name: str) -> None:
            for _ in range(15):
                await fill(wire, name, 3)
                await wire.delete(name, allow_missing=True)

        async def work() -> None:
            for _ in range(40):
                for one in await lease(wire, max_sessions=3):
                    results = await asyncio.gather(
                        ack(wire, one, failures={1: "e"}), return_exceptions=True
                    )
                    assert results[0] is None or "LEASE_LOST" in str(results[0])

        async def delete() -> None:
            for _ in range(10):
                await wire.processing.DeleteQueue(
                    pb.DeleteQueueRequest(queue="q", allow_missing=True)
                )

        await asyncio.gather(
            *(churn(f"s{i}") for i in range(4)), *(work() for _ in range(3)), delete()
        )
        await fill(wire, "last", 2)
        assert {one.session_id for one in await lease(wire, max_sessions=100)} == {"last"}
