"""TaskService: creating, reading, listing and deleting tasks."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from sessiond.v1.task_pb2 import (
    TASK_STATUS_FAILED,
    TASK_STATUS_PENDING,
    TASK_STATUS_RUNNING,
    Task,
)
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    ListTasksRequest,
)
from sessiond_server.core.structs import to_dict
from sessiond_server.db import pages as listing_pages

from ..sessions.test_expiry import pass_time
from ..support.wire import Wire, error_of
from .helpers import (
    Query,
    create,
    delete,
    fill,
    get,
    ids,
    invalid_field,
    listed,
    pages,
    reorder,
    struct,
    update,
)

pytestmark = pytest.mark.usefixtures("one")


class TestCreate:
    async def test_a_new_task_has_what_its_creator_chose(self, wire: Wire) -> None:
        created = await create(
            wire,
            "t",
            status=TASK_STATUS_RUNNING,
            data=struct(a={"b": [1, None, "x"]}),
            message_seqs=[1, 3],
        )
        assert created == await get(wire, "t")
        assert (created.task_id, created.position, created.status) == ("t", 1, TASK_STATUS_RUNNING)
        assert to_dict(created.data, "") == {"a": {"b": [1, None, "x"]}}
        assert list(created.message_seqs) == [1, 3]
        assert created.create_time == created.update_time
        assert created.create_time.seconds > 0
        assert created.etag

    async def test_a_task_without_fields_gets_the_defaults(self, wire: Wire) -> None:
        created = await wire.tasks.CreateTask(CreateTaskRequest(session_id="one"))
        assert uuid.UUID(created.task_id).version == 7
        assert (created.position, created.status, len(created.message_seqs)) == (
            1,
            TASK_STATUS_PENDING,
            0,
        )
        assert not created.HasField("data")

    async def test_a_new_task_is_the_last_one(self, wire: Wire) -> None:
        for i in range(1, 5):
            assert (await create(wire)).position == i

    async def test_output_only_fields_are_ignored(self, wire: Wire) -> None:
        task = Task(task_id="t", position=7, etag="x")
        task.create_time.FromSeconds(1)
        task.update_time.FromSeconds(1)
        created = await wire.tasks.CreateTask(CreateTaskRequest(session_id="one", task=task))
        assert created.position == 1
        assert created.etag != "x"
        assert created.create_time.seconds > 1 < created.update_time.seconds

    @pytest.mark.parametrize(
        "task_id", ["a/b", "naïve ☕", "x" * 128, "%s", "'; DROP TABLE tasks", '"', "{}"]
    )
    async def test_ids_are_the_callers_own_strings(self, wire: Wire, task_id: str) -> None:
        assert (await create(wire, task_id)).task_id == task_id
        assert (await get(wire, task_id)).task_id == task_id
        assert await reorder(wire, task_id) == [task_id]
        await delete(wire, task_id)

    async def test_seqs_are_sorted_each_once(self, wire: Wire) -> None:
        assert list((await create(wire, message_seqs=[5, 1, 3, 1, 5])).message_seqs) == [1, 3, 5]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"task_id": "x" * 129}, "task.task_id"),
            ({"task_id": "a\0"}, "task.task_id"),
            ({"task_id": "a\nb"}, "task.task_id"),
            ({"status": 9}, "task.status"),
            ({"status": -1}, "task.status"),
            ({"data": struct(a="x" * 70_000)}, "task.data"),
            ({"data": struct(a="\0")}, "task.data.a"),
            ({"data": struct(a={"b": [0, float("nan")]})}, "task.data.a.b[1]"),
            ({"message_seqs": [1, 0]}, "task.message_seqs[1]"),
            ({"message_seqs": [-1]}, "task.message_seqs[0]"),
            ({"message_seqs": range(1, 10_002)}, "task.message_seqs"),
        ],
    )
    async def test_wrong_requests_name_the_field(
        self, wire: Wire, fields: dict[str, Any], field: str
    ) -> None:
        assert invalid_field(await error_of(create(wire, **fields))) == field
        assert await ids(wire) == []

    async def test_messages_must_exist(self, wire: Wire) -> None:
        error = await error_of(create(wire, message_seqs=[5, 6]))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
        assert (
            error.metadata["session_id"],
            error.metadata["seq"],
            error.metadata["last_seq"],
        ) == ("one", "6", "5")
        assert list(error.fields) == ["task.message_seqs[1]"]
        assert await ids(wire) == []

    async def test_a_task_links_to_ten_thousand_messages(self, wire: Wire, query: Query) -> None:
        query("UPDATE sessions SET last_seq = 20000")
        created = await create(wire, message_seqs=[*range(1, 10_001), 1])
        assert list(created.message_seqs) == list(range(1, 10_001))

    async def test_concurrent_creations_do_not_exceed_the_limit(
        self, wire: Wire, query: Query
    ) -> None:
        fill(query, 995)
        results = await asyncio.gather(*(create(wire) for _ in range(12)), return_exceptions=True)
        assert sorted(result.position for result in results if isinstance(result, Task)) == list(
            range(996, 1001)
        )


class TestGetAndList:
    @pytest.mark.parametrize("task_id", ["", "x" * 129, "a\0"])
    async def test_malformed_ids_name_the_field(self, wire: Wire, task_id: str) -> None:
        assert invalid_field(await error_of(get(wire, task_id))) == "task_id"
        assert invalid_field(await error_of(delete(wire, task_id))) == "task_id"
        assert (
            invalid_field(await error_of(update(wire, Task(task_id=task_id), "status")))
            == "task.task_id"
        )
        assert invalid_field(await error_of(reorder(wire, "t", task_id))) == "task_ids[1]"

    async def test_pages_come_in_order(self, wire: Wire) -> None:
        made = [await create(wire, f"t{i}") for i in range(7)]
        assert await pages(wire, page_size=3) == [made[:3], made[3:6], made[6:]]
        assert await pages(wire, page_size=7) == [made]

    async def test_listing_filters_by_status(self, wire: Wire) -> None:
        for i in range(9):
            await create(wire, f"t{i}", status=1 + i % 4)
        assert await ids(wire, status=TASK_STATUS_PENDING) == ["t0", "t4", "t8"]
        assert await ids(wire, status=TASK_STATUS_FAILED, page_size=1) == ["t3", "t7"]
        assert invalid_field(await error_of(pages(wire, status=5))) == "status"

    async def test_pages_skip_no_task_when_others_are_deleted(self, wire: Wire) -> None:
        for i in range(6):
            await create(wire, f"t{i}")
        for gone in ("t0", "t2"):
            page = await wire.tasks.ListTasks(ListTasksRequest(session_id="one", page_size=3))
            seen = [task.task_id for task in page.tasks]
            await delete(wire, gone)
            seen += await ids(wire, page_token=page.next_page_token)
            assert seen == sorted(set(seen))
            assert set(await ids(wire)) <= set(seen)

    async def test_pages_skip_no_task_when_the_last_one_moves_back(self, wire: Wire) -> None:
        for i in range(4):
            await create(wire, f"t{i}")
        page = await wire.tasks.ListTasks(ListTasksRequest(session_id="one", page_size=2))
        await reorder(wire, "t0", "t2", "t3", "t1")
        assert await ids(wire, page_token=page.next_page_token) == ["t3", "t1"]

    async def test_large_tasks_make_short_pages(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing_pages, "MAX_PAGE_BYTES", 100_000)
        made = [await create(wire, f"t{i}", data=struct(a="x" * 60_000)) for i in range(5)]
        assert [len(page) for page in await pages(wire)] == [2, 2, 1]
        assert await listed(wire) == made


class TestDelete:
    async def test_tasks_after_a_deleted_one_move_up(self, wire: Wire) -> None:
        await wire.create("two")
        for task_id in "abcde":
            await create(wire, task_id)
            await create(wire, task_id, session="two")
        etag = (await get(wire, "e")).etag
        await delete(wire, "b")
        await delete(wire, "d")
        assert [(task.task_id, task.position) for task in await listed(wire)] == [
            ("a", 1),
            ("c", 2),
            ("e", 3),
        ]
        assert (await get(wire, "e")).etag == etag
        assert [task.position for task in await listed(wire, session="two")] == [1, 2, 3, 4, 5]
        assert (await error_of(get(wire, "b"))).reason == "TASK_NOT_FOUND"


class TestSessions:
    async def test_reordering_extends_the_idle_ttl_and_keeps_the_etag(
        self, wire: Wire, query: Query
    ) -> None:
        await wire.create("two", idle_ttl_s=60)
        await create(wire, "t", session="two")
        etag = (await wire.get("two")).etag
        pass_time(query, "two", 50)
        await reorder(wire, "t", session="two")
        pass_time(query, "two", 50)
        assert (await wire.get("two")).etag == etag

    async def test_destroyed_sessions_keep_their_tasks_readable(self, wire: Wire) -> None:
        task = await create(wire, "t")
        await wire.destroy("one")
        assert await get(wire, "t") == task
        assert await listed(wire) == [task]
        for call in (
            create(wire, "u"),
            update(wire, Task(task_id="t"), "status"),
            update(wire, Task(task_id="x"), "status"),
            reorder(wire, "t"),
            delete(wire, "t"),
            delete(wire, "x", allow_missing=True),
        ):
            error = await error_of(call)
            assert (error.code, error.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "SESSION_DESTROYED",
            )
            assert error.metadata["session_id"] == "one"
        assert await listed(wire) == [task]
        await wire.resume("one")
        await delete(wire, "t")


class TestConcurrency:
    async def test_positions_stay_dense(self, wire: Wire, query: Query) -> None:
        for i in range(10):
            await create(wire, f"t{i}")

        async def churn(worker: int) -> None:
            for i in range(6):
                name = f"w{worker}-{i}"
                await create(wire, name)
                await reorder(wire, name, f"t{(worker + i) % 10}")
                if i % 2:
                    await delete(wire, name)

        appends = [wire.store("one", "x") for _ in range(10)]
        await asyncio.gather(*(churn(worker) for worker in range(8)), *appends)
        after = await listed(wire, page_size=500)
        assert [task.position for task in after] == list(range(1, 10 + 8 * 3 + 1))
        assert {task.task_id for task in after} == {f"t{i}" for i in range(10)} | {
            f"w{w}-{i}" for w in range(8) for i in (0, 2, 4)
        }
        assert (await wire.get("one")).last_seq == 15
