"""TaskService: what the protos promise of tasks."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from sessiond.v1.task_pb2 import (
    TASK_STATUS_FAILED,
    TASK_STATUS_PENDING,
    TASK_STATUS_RUNNING,
    TASK_STATUS_SUCCESS,
    Task,
)
from sessiond.v1.task_service_pb2 import (
    CreateTaskRequest,
    DeleteTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ReorderTasksRequest,
    UpdateTaskRequest,
)
from sessiond_server.core.structs import to_dict
from sessiond_server.tasks import service as tasks

from ..sessions.test_expiry import pass_time
from ..support.wire import Wire, WireError, error_of

Query = Callable[..., list[tuple[object, ...]]]


def struct(**values: object) -> Struct:
    made = Struct()
    made.update(values)
    return made


async def create(
    wire: Wire, task_id: str = "", *, session: str = "one", request_id: str = "", **fields: Any
) -> Task:
    task = Task(task_id=task_id, **fields)
    return await wire.tasks.CreateTask(
        CreateTaskRequest(session_id=session, task=task, request_id=request_id)
    )


async def get(wire: Wire, task_id: str, session: str = "one") -> Task:
    return await wire.tasks.GetTask(GetTaskRequest(session_id=session, task_id=task_id))


async def update(wire: Wire, task: Task, *paths: str, session: str = "one", **fields: Any) -> Task:
    request = UpdateTaskRequest(session_id=session, task=task, **fields)
    if paths:
        request.update_mask.CopyFrom(FieldMask(paths=paths))
    return await wire.tasks.UpdateTask(request)


async def reorder(wire: Wire, *task_ids: str, session: str = "one") -> list[str]:
    return [
        *(
            await wire.tasks.ReorderTasks(
                ReorderTasksRequest(session_id=session, task_ids=task_ids)
            )
        ).task_ids
    ]


async def delete(wire: Wire, task_id: str, *, session: str = "one", **fields: Any) -> None:
    await wire.tasks.DeleteTask(DeleteTaskRequest(session_id=session, task_id=task_id, **fields))


async def pages(wire: Wire, *, session: str = "one", **fields: Any) -> list[list[Task]]:
    request = ListTasksRequest(session_id=session, **fields)
    found = []
    while True:
        page = await wire.tasks.ListTasks(request)
        found.append([*page.tasks])
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def listed(wire: Wire, **fields: Any) -> list[Task]:
    return [task for page in await pages(wire, **fields) for task in page]


async def ids(wire: Wire, **fields: Any) -> list[str]:
    return [task.task_id for task in await listed(wire, **fields)]


def invalid_field(error: WireError) -> str:
    """The field of an INVALID_FIELD error."""
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    [field] = error.fields
    return field


@pytest.fixture
async def one(wire: Wire) -> None:
    """A session "one" of five messages."""
    await wire.create("one")
    await wire.store("one", *"abcde")


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

    async def test_defaults(self, wire: Wire) -> None:
        created = await wire.tasks.CreateTask(CreateTaskRequest(session_id="one"))
        assert uuid.UUID(created.task_id).version == 7
        assert (created.position, created.status, len(created.message_seqs)) == (
            1,
            TASK_STATUS_PENDING,
            0,
        )
        assert not created.HasField("data")

    async def test_it_is_the_last_one(self, wire: Wire) -> None:
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

    async def test_ten_thousand_messages(self, wire: Wire, query: Query) -> None:
        query("UPDATE sessions SET last_seq = 20000")
        created = await create(wire, message_seqs=[*range(1, 10_001), 1])
        assert list(created.message_seqs) == list(range(1, 10_001))

    async def test_many_at_once_do_not_pass_the_limit(self, wire: Wire, query: Query) -> None:
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

    async def test_the_filter(self, wire: Wire) -> None:
        for i in range(9):
            await create(wire, f"t{i}", status=1 + i % 4)
        assert await ids(wire, status=TASK_STATUS_PENDING) == ["t0", "t4", "t8"]
        assert await ids(wire, status=TASK_STATUS_FAILED, page_size=1) == ["t3", "t7"]
        assert invalid_field(await error_of(pages(wire, status=5))) == "status"

    async def test_no_task_is_lost_where_others_go_between_pages(self, wire: Wire) -> None:
        for i in range(6):
            await create(wire, f"t{i}")
        for gone in ("t0", "t2"):
            page = await wire.tasks.ListTasks(ListTasksRequest(session_id="one", page_size=3))
            seen = [task.task_id for task in page.tasks]
            await delete(wire, gone)
            seen += await ids(wire, page_token=page.next_page_token)
            assert seen == sorted(set(seen))
            assert set(await ids(wire)) <= set(seen)

    async def test_no_task_is_lost_where_the_last_one_is_moved_back(self, wire: Wire) -> None:
        for i in range(4):
            await create(wire, f"t{i}")
        page = await wire.tasks.ListTasks(ListTasksRequest(session_id="one", page_size=2))
        await reorder(wire, "t0", "t2", "t3", "t1")
        assert await ids(wire, page_token=page.next_page_token) == ["t3", "t1"]

    async def test_large_tasks_make_short_pages(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tasks, "MAX_PAGE_BYTES", 100_000)
        made = [await create(wire, f"t{i}", data=struct(a="x" * 60_000)) for i in range(5)]
        assert [len(page) for page in await pages(wire)] == [2, 2, 1]
        assert await listed(wire) == made


class TestUpdate:
    async def test_a_mask_names_what_changes(self, wire: Wire) -> None:
        before = await create(wire, "t", data=struct(a=1), message_seqs=[1])
        after = await update(
            wire,
            Task(task_id="t", status=TASK_STATUS_SUCCESS, data=struct(b=2), message_seqs=[2]),
            "status",
        )
        assert (after.status, dict(after.data), list(after.message_seqs)) == (
            TASK_STATUS_SUCCESS,
            {"a": 1},
            [1],
        )
        assert after == await get(wire, "t")
        assert after.etag != before.etag
        assert after.create_time == before.create_time
        assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()

    async def test_without_a_mask_set_fields_are_taken(self, wire: Wire) -> None:
        await create(wire, "t", status=TASK_STATUS_RUNNING, data=struct(a=1), message_seqs=[1])
        after = await update(wire, Task(task_id="t", data=struct(b=2)))
        assert (after.status, dict(after.data), list(after.message_seqs)) == (
            TASK_STATUS_RUNNING,
            {"b": 2},
            [1],
        )
        after = await update(
            wire, Task(task_id="t", message_seqs=[3, 2], status=TASK_STATUS_FAILED)
        )
        assert (after.status, dict(after.data), list(after.message_seqs)) == (
            TASK_STATUS_FAILED,
            {"b": 2},
            [2, 3],
        )

    async def test_a_named_field_that_is_unset_is_cleared(self, wire: Wire) -> None:
        await create(wire, "t", status=TASK_STATUS_RUNNING, data=struct(a=1), message_seqs=[1])
        after = await update(wire, Task(task_id="t"), "status", "data", "message_seqs")
        assert (after.status, list(after.message_seqs)) == (TASK_STATUS_PENDING, [])
        assert not after.HasField("data")

    async def test_data_is_patched_as_rfc_7396_says(self, wire: Wire) -> None:
        await create(wire, "t", data=struct(keep=1, drop=2, deep={"a": 1, "b": 2}))
        after = await update(
            wire,
            Task(task_id="t"),
            data_patch=struct(drop=None, deep={"b": None, "c": [3]}, new="n"),
        )
        assert to_dict(after.data, "") == {"keep": 1, "deep": {"a": 1, "c": [3]}, "new": "n"}

    async def test_messages_are_linked_and_unlinked(self, wire: Wire) -> None:
        await create(wire, "t", message_seqs=[2, 4])
        assert list(
            (await update(wire, Task(task_id="t"), link_seqs=[5, 4, 1, 1])).message_seqs
        ) == [1, 2, 4, 5]
        assert list(
            (await update(wire, Task(task_id="t"), unlink_seqs=[4, 3, 99, 0])).message_seqs
        ) == [1, 2, 5]
        assert list(
            (await update(wire, Task(task_id="t"), link_seqs=[3], unlink_seqs=[1])).message_seqs
        ) == [2, 3, 5]

    async def test_patch_link_and_status_go_together(self, wire: Wire) -> None:
        await create(wire, "t")
        after = await update(
            wire,
            Task(task_id="t", status=TASK_STATUS_RUNNING),
            link_seqs=[1],
            data_patch=struct(a=1),
        )
        assert (after.status, dict(after.data), list(after.message_seqs)) == (
            TASK_STATUS_RUNNING,
            {"a": 1},
            [1],
        )

    @pytest.mark.parametrize(
        ("task", "paths", "fields", "field"),
        [
            (Task(task_id="t"), [], {}, "update_mask"),
            (Task(task_id="t"), ["position"], {}, "update_mask"),
            (Task(task_id="t"), ["*"], {}, "update_mask"),
            (Task(task_id="t", status=7), [], {}, "task.status"),
            (Task(task_id="t", data=struct(a="\0")), [], {}, "task.data.a"),
            (Task(task_id="t", data=struct(a="x" * 70_000)), [], {}, "task.data"),
            (Task(task_id="t", data=struct(a=1)), [], {"data_patch": struct(b=1)}, "data_patch"),
            (Task(task_id="t"), ["data"], {"data_patch": struct(b=1)}, "data_patch"),
            (Task(task_id="t"), [], {"data_patch": struct(b=float("inf"))}, "data_patch.b"),
            (Task(task_id="t", message_seqs=[0]), [], {}, "task.message_seqs[0]"),
            (Task(task_id="t", message_seqs=range(1, 10_002)), [], {}, "task.message_seqs"),
            (Task(task_id="t", message_seqs=[1]), [], {"link_seqs": [2]}, "link_seqs"),
            (Task(task_id="t"), ["message_seqs"], {"unlink_seqs": [1]}, "unlink_seqs"),
            (Task(task_id="t"), [], {"link_seqs": [1, -1]}, "link_seqs[1]"),
            (Task(task_id="t"), ["status"], {"etag": "rubbish"}, "etag"),
            (Task(task_id="t"), ["status"], {"request_id": "x" * 129}, "request_id"),
        ],
    )
    async def test_wrong_requests_name_the_field(
        self, wire: Wire, task: Task, paths: list[str], fields: dict[str, Any], field: str
    ) -> None:
        before = await create(wire, "t", message_seqs=[1])
        assert invalid_field(await error_of(update(wire, task, *paths, **fields))) == field
        assert await get(wire, "t") == before

    async def test_an_empty_mask_names_nothing(self, wire: Wire) -> None:
        await create(wire, "t")
        request = UpdateTaskRequest(
            session_id="one",
            task=Task(task_id="t", status=TASK_STATUS_RUNNING),
            update_mask=FieldMask(),
        )
        assert invalid_field(await error_of(wire.tasks.UpdateTask(request))) == "update_mask"

    @pytest.mark.parametrize(
        ("message_seqs", "link_seqs", "field"),
        [([5, 6], [], "task.message_seqs[1]"), ([], [1, 2, 6], "link_seqs[2]")],
    )
    async def test_messages_must_exist(
        self, wire: Wire, message_seqs: list[int], link_seqs: list[int], field: str
    ) -> None:
        before = await create(wire, "t")
        error = await error_of(
            update(wire, Task(task_id="t", message_seqs=message_seqs), link_seqs=link_seqs)
        )
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
        assert (
            error.metadata["session_id"],
            error.metadata["seq"],
            error.metadata["last_seq"],
        ) == ("one", "6", "5")
        assert list(error.fields) == [field]
        assert await get(wire, "t") == before

    async def test_links_do_not_pass_the_limit(self, wire: Wire, query: Query) -> None:
        query("UPDATE sessions SET last_seq = 20000")
        await create(wire, "t", message_seqs=range(1, 10_000))
        await update(wire, Task(task_id="t"), link_seqs=[10_000])
        assert (
            invalid_field(await error_of(update(wire, Task(task_id="t"), link_seqs=[10_001])))
            == "link_seqs"
        )
        await update(wire, Task(task_id="t"), link_seqs=[10_001], unlink_seqs=[1])

    async def test_patches_do_not_pass_the_limit(self, wire: Wire) -> None:
        before = await create(wire, "t", data=struct(a="x" * 40_000))
        assert (
            invalid_field(
                await error_of(update(wire, Task(task_id="t"), data_patch=struct(b="x" * 40_000)))
            )
            == "data_patch"
        )
        assert await get(wire, "t") == before

    async def test_full_data_can_still_be_patched(self, wire: Wire) -> None:
        # As PostgreSQL writes it, with a space after each comma and colon, it is larger than allowed.
        await create(wire, "t", data=struct(a=[1] * 32_000, b=1))
        assert "b" not in (await update(wire, Task(task_id="t"), data_patch=struct(b=None))).data

    async def test_an_etag_guards_against_others(self, wire: Wire) -> None:
        created = await create(wire, "t")
        first = await update(wire, Task(task_id="t", status=TASK_STATUS_RUNNING), etag=created.etag)
        error = await error_of(
            update(wire, Task(task_id="t", status=TASK_STATUS_FAILED), etag=created.etag)
        )
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert (error.metadata["session_id"], error.metadata["etag"]) == ("one", first.etag)
        assert list(error.fields) == ["etag"]
        assert (await get(wire, "t")).status == TASK_STATUS_RUNNING

    async def test_of_updates_at_once_with_one_etag_one_wins(self, wire: Wire) -> None:
        created = await create(wire, "t")
        calls = (
            update(wire, Task(task_id="t", data=struct(n=i)), etag=created.etag) for i in range(8)
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, Task) for result in results) == 1

    async def test_a_task_that_is_made_anew_has_other_etags(self, wire: Wire) -> None:
        first = await create(wire, "t")
        await delete(wire, "t")
        second = await create(wire, "t")
        assert first.etag != second.etag
        assert (
            await error_of(update(wire, Task(task_id="t"), "status", etag=first.etag))
        ).reason == "ETAG_MISMATCH"
        await update(wire, Task(task_id="t"), "status", etag=second.etag)

    async def test_a_task_that_is_not_there(self, wire: Wire) -> None:
        error = await error_of(update(wire, Task(task_id="t"), "status", etag=f"{'0' * 16}-1"))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    async def test_updates_at_once_all_take_effect(self, wire: Wire) -> None:
        await create(wire, "t")
        patches = [
            update(wire, Task(task_id="t"), data_patch=struct(**{f"k{i}": i})) for i in range(10)
        ]
        links = [update(wire, Task(task_id="t"), link_seqs=[i]) for i in range(1, 6)]
        await asyncio.gather(*patches, *links)
        task = await get(wire, "t")
        assert len(task.data) == 10
        assert list(task.message_seqs) == [1, 2, 3, 4, 5]


class TestReorder:
    async def test_the_named_come_first_the_others_follow(self, wire: Wire) -> None:
        before = {task_id: await create(wire, task_id) for task_id in "abcdef"}
        assert await reorder(wire, "e", "b") == ["e", "b", "a", "c", "d", "f"]
        assert await reorder(wire, "e", "b") == ["e", "b", "a", "c", "d", "f"]
        after = await listed(wire)
        assert [task.task_id for task in after] == ["e", "b", "a", "c", "d", "f"]
        assert [task.position for task in after] == [1, 2, 3, 4, 5, 6]
        for task in after:
            assert (task.etag, task.update_time) == (
                before[task.task_id].etag,
                before[task.task_id].update_time,
            )
        assert (await create(wire, "g")).position == 7

    async def test_wrong_requests_name_the_field(self, wire: Wire) -> None:
        await create(wire, "a")
        await create(wire, "b")
        assert invalid_field(await error_of(reorder(wire))) == "task_ids"
        assert invalid_field(await error_of(reorder(wire, "b", "a", "b"))) == "task_ids[2]"
        assert await ids(wire) == ["a", "b"]

    async def test_an_unknown_task_changes_nothing(self, wire: Wire) -> None:
        await create(wire, "a")
        await create(wire, "b")
        error = await error_of(reorder(wire, "b", "x", "y"))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
        assert (error.metadata["session_id"], error.metadata["task_id"]) == ("one", "x")
        assert await ids(wire) == ["a", "b"]

    async def test_a_thousand(self, wire: Wire, query: Query) -> None:
        fill(query, 1000)
        order = sorted(await ids(wire, page_size=500), reverse=True)
        assert await reorder(wire, *order) == order
        assert [(task.task_id, task.position) for task in await listed(wire, page_size=500)] == [
            *zip(order, range(1, 1001), strict=True)
        ]

    async def test_a_repeated_reordering_leaves_a_later_order(self, wire: Wire) -> None:
        for task_id in "abc":
            await create(wire, task_id)
        requests = [
            ReorderTasksRequest(session_id="one", task_ids=task_ids, request_id=request_id)
            for task_ids, request_id in (("c", "first"), ("b", "second"), ("c", "first"))
        ]
        orders = [(await wire.tasks.ReorderTasks(request)).task_ids for request in requests]
        assert ["".join(order) for order in orders] == ["cab", "bca", "bca"]

    async def test_a_request_id_belongs_to_one_order(self, wire: Wire) -> None:
        for task_id in "ab":
            await create(wire, task_id)
        request = ReorderTasksRequest(session_id="one", task_ids=["b"], request_id="r")
        await wire.tasks.ReorderTasks(request)
        request.task_ids[:] = ["a"]
        assert (await error_of(wire.tasks.ReorderTasks(request))).reason == "REQUEST_ID_REUSED"


class TestDelete:
    async def test_those_after_it_move_up(self, wire: Wire) -> None:
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


class TestRequestIds:
    async def test_concurrent_retries_share_the_generated_id(self, wire: Wire) -> None:
        created = await asyncio.gather(
            *(
                create(wire, request_id="r", data=struct(a=1), message_seqs=[2, 1])
                for _ in range(10)
            )
        )
        assert await listed(wire) == created[:1]
        assert {task.task_id for task in created} == {created[0].task_id}
        assert created[0].etag.endswith("-1")
        await create(wire, "t", request_id="s")
        assert (await error_of(create(wire, request_id="s"))).reason == "REQUEST_ID_REUSED"

    async def test_a_repeated_update_is_one(self, wire: Wire) -> None:
        created = await create(wire, "t")
        first = await update(
            wire, Task(task_id="t", status=TASK_STATUS_RUNNING), etag=created.etag, request_id="r"
        )
        assert (
            await update(
                wire,
                Task(task_id="t", status=TASK_STATUS_RUNNING),
                etag=created.etag,
                request_id="r",
            )
            == first
        )
        later = await update(wire, Task(task_id="t", status=TASK_STATUS_SUCCESS))
        assert (
            await update(
                wire,
                Task(task_id="t", status=TASK_STATUS_RUNNING),
                etag=created.etag,
                request_id="r",
            )
            == later
        )
        for fields in (
            {"etag": ""},
            {"etag": created.etag, "link_seqs": [1]},
            {"etag": created.etag, "data_patch": struct(a=1)},
        ):
            error = await error_of(
                update(
                    wire, Task(task_id="t", status=TASK_STATUS_RUNNING), request_id="r", **fields
                )
            )
            assert error.reason == "REQUEST_ID_REUSED"


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


def fill(query: Query, count: int) -> None:
    """Give every session so many tasks."""
    query(
        "INSERT INTO tasks (key, log, task_id, position, status, created_at, updated_at) "
        "SELECT key, log, 'f' || n, n, 1, now(), now() FROM sessions, generate_series(1, %s) n",
        [count],
    )
