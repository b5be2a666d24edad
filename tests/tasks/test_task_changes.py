"""TaskService: updating and reordering tasks, and repeated requests."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.v1.task_pb2 import (
    TASK_STATUS_FAILED,
    TASK_STATUS_PENDING,
    TASK_STATUS_RUNNING,
    TASK_STATUS_SUCCESS,
    Task,
)
from sessiond.v1.task_service_pb2 import (
    ReorderTasksRequest,
    UpdateTaskRequest,
)
from sessiond_server.core.structs import to_dict

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
    reorder,
    struct,
    update,
)

pytestmark = pytest.mark.usefixtures("one")


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

    async def test_links_do_not_exceed_the_limit(self, wire: Wire, query: Query) -> None:
        query("UPDATE sessions SET last_seq = 20000")
        await create(wire, "t", message_seqs=range(1, 10_000))
        await update(wire, Task(task_id="t"), link_seqs=[10_000])
        assert (
            invalid_field(await error_of(update(wire, Task(task_id="t"), link_seqs=[10_001])))
            == "link_seqs"
        )
        await update(wire, Task(task_id="t"), link_seqs=[10_001], unlink_seqs=[1])

    async def test_patches_do_not_exceed_the_limit(self, wire: Wire) -> None:
        before = await create(wire, "t", data=struct(a="x" * 40_000))
        assert (
            invalid_field(
                await error_of(update(wire, Task(task_id="t"), data_patch=struct(b="x" * 40_000)))
            )
            == "data_patch"
        )
        assert await get(wire, "t") == before

    async def test_full_data_can_still_be_patched(self, wire: Wire) -> None:
        # The limit does not apply to PostgreSQL's text of the value, which has more spaces.
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

    async def test_one_of_many_updates_with_the_same_etag_wins(self, wire: Wire) -> None:
        created = await create(wire, "t")
        calls = (
            update(wire, Task(task_id="t", data=struct(n=i)), etag=created.etag) for i in range(8)
        )
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, Task) for result in results) == 1

    async def test_a_recreated_task_has_other_etags(self, wire: Wire) -> None:
        first = await create(wire, "t")
        await delete(wire, "t")
        second = await create(wire, "t")
        assert first.etag != second.etag
        assert (
            await error_of(update(wire, Task(task_id="t"), "status", etag=first.etag))
        ).reason == "ETAG_MISMATCH"
        await update(wire, Task(task_id="t"), "status", etag=second.etag)

    async def test_updating_an_unknown_task_is_not_found(self, wire: Wire) -> None:
        error = await error_of(update(wire, Task(task_id="t"), "status", etag=f"{'0' * 16}-1"))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    async def test_concurrent_updates_all_take_effect(self, wire: Wire) -> None:
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
    async def test_named_tasks_come_first_and_the_others_follow(self, wire: Wire) -> None:
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

    async def test_a_thousand_tasks_are_reordered(self, wire: Wire, query: Query) -> None:
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

    async def test_a_repeated_update_changes_the_task_once(self, wire: Wire) -> None:
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
