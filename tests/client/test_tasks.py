"""client.tasks and session.tasks: their requests and results."""

import json
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import AsyncClient, InvalidField, StoredRange, Task, errors
from sessiond._protocol.structs import from_struct
from sessiond.v1 import session_pb2, task_pb2
from sessiond.v1.task_service_pb2 import (
    DeleteTaskRequest,
    DeleteTaskResponse,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    ReorderTasksResponse,
)


def task(task_id: str = "t", **fields: Any) -> task_pb2.Task:
    made = task_pb2.Task(
        task_id=task_id,
        position=2,
        status=task_pb2.TASK_STATUS_RUNNING,
        message_seqs=[3, 4],
        etag="e",
        **fields,
    )
    made.create_time.CopyFrom(Timestamp(seconds=1))
    made.update_time.CopyFrom(Timestamp(seconds=2))
    made.data["a"] = 1
    return made


async def test_a_task_reads_by_attribute_and_by_key(colour, server, client) -> None:
    server.on("GetTask", task())
    got = await colour.call(client.tasks.get, "s", "t")
    assert server.of("GetTask") == [GetTaskRequest(session_id="s", task_id="t")]
    assert isinstance(got, Task)
    assert (got.task_id, got.position, got.order, got.status) == ("t", 2, 2, "running")
    assert (got.data, got.message_seqs, got.etag) == ({"a": 1}, [3, 4], "e")
    assert got.created_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert got.updated_at == datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert got["taskId"] == got["task_id"] == "t"
    assert json.loads(json.dumps(got.to_dict())) == {
        "task_id": "t",
        "position": 2,
        "order": 2,
        "status": "running",
        "data": {"a": 1},
        "message_seqs": [3, 4],
        "created_at": "1970-01-01T00:00:01Z",
        "updated_at": "1970-01-01T00:00:02Z",
        "etag": "e",
    }
    assert repr(got) == "Task(task_id='t', position=2, status='running')"
    assert got == Task(task())
    assert hash(got) == hash(Task(task()))
    assert got != Task(task("u"))


async def test_a_task_without_data() -> None:
    assert Task(task_pb2.Task()).data == {}
    assert Task(task_pb2.Task(status=99)).status == "unknown"  # type: ignore[arg-type]


async def test_create(colour, server, client) -> None:
    server.on("CreateTask", task())
    await colour.call(client.tasks.create, "s")
    await colour.call(
        client.tasks.create,
        "s",
        task_id="t",
        status="failed",
        data={"a": [1]},
        message_seqs=StoredRange(3, 4, datetime.now(UTC)),
        request_id="r",
    )
    plain, full = server.of("CreateTask")
    assert plain.task == task_pb2.Task(status=task_pb2.TASK_STATUS_PENDING)
    assert plain.request_id
    assert (full.session_id, full.task.task_id, full.task.status, full.request_id) == (
        "s",
        "t",
        task_pb2.TASK_STATUS_FAILED,
        "r",
    )
    assert from_struct(full.task.data) == {"a": [1]}
    assert list(full.task.message_seqs) == [3, 4]


@pytest.mark.parametrize(
    ("call", "arguments", "field"),
    [
        ("create", {"task_id": ""}, "task_id"),
        ("create", {"task_id": 7}, "task_id"),
        ("create", {"status": "done"}, "status"),
        ("create", {"data": {"x": object()}}, "data.x"),
        ("create", {"message_seqs": 5}, "message_seqs"),
        ("create", {"message_seqs": ["x"]}, "message_seqs[0]"),
        ("update", {"task_id": "t", "status": ""}, "status"),
        ("update", {"task_id": "t", "link": [2**63]}, "link[0]"),
        ("update", {"task_id": "t", "unlink": 1}, "unlink"),
        ("update", {"task_id": "t", "data_patch": {"n": 2**53 + 1}}, "data_patch.n"),
        ("reorder", {"task_ids": "abc"}, "task_ids"),
        ("reorder", {"task_ids": [1]}, "task_ids[0]"),
    ],
)
async def test_a_bad_value_is_not_sent(
    colour, server, client, call: str, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await colour.call(getattr(client.tasks, call), "s", **arguments)
    assert caught.value.field_violations[0].field == field
    assert server.received == []


async def test_update_masks_the_given_fields(colour, server, client) -> None:
    server.on("UpdateTask", task())
    await colour.call(client.tasks.update, "s", "t", status="success", etag="e", request_id="r")
    await colour.call(client.tasks.update, "s", "t", data={}, message_seqs=[])
    await colour.call(client.tasks.update, "s", "t", data_patch={"a": None}, link=[1], unlink=(2,))
    status, cleared, changed = server.of("UpdateTask")
    assert (status.session_id, status.etag, status.request_id) == ("s", "e", "r")
    assert status.task == task_pb2.Task(task_id="t", status=task_pb2.TASK_STATUS_SUCCESS)
    assert list(status.update_mask.paths) == ["status"]
    assert cleared.task == task_pb2.Task(task_id="t", data=Struct())
    assert list(cleared.update_mask.paths) == ["data", "message_seqs"]
    assert not changed.HasField("update_mask")
    assert from_struct(changed.data_patch) == {"a": None}
    assert (list(changed.link_seqs), list(changed.unlink_seqs)) == ([1], [2])


async def test_lists_page_by_page(colour, server, client) -> None:
    pages = [
        ListTasksResponse(tasks=[task("a"), task("b")], next_page_token="2"),
        ListTasksResponse(tasks=[task("c")]),
    ]
    server.on("ListTasks", *pages, *pages)
    listing = client.tasks.list("s", status="running", page_size=2)
    assert server.received == []
    assert [got.task_id for got in await colour.collect(listing)] == ["a", "b", "c"]
    first, second = server.of("ListTasks")
    assert first == ListTasksRequest(
        session_id="s", status=task_pb2.TASK_STATUS_RUNNING, page_size=2
    )
    assert second == ListTasksRequest(
        session_id="s", status=task_pb2.TASK_STATUS_RUNNING, page_size=2, page_token="2"
    )
    server.on("ListTasks", *pages)
    assert len(await colour.call(listing.to_list)) == 3


async def test_await_makes_a_list(server) -> None:
    server.on("ListTasks", ListTasksResponse(tasks=[task("a")]))
    async with AsyncClient(server.target) as client:
        assert [got.task_id for got in await client.tasks.list("s")] == ["a"]


async def test_reorder_and_delete(colour, server, client) -> None:
    server.on("ReorderTasks", ReorderTasksResponse(task_ids=["b", "a", "c"]))
    server.on("DeleteTask", DeleteTaskResponse())
    assert await colour.call(client.tasks.reorder, "s", (name for name in "ba")) == ["b", "a", "c"]
    assert list(server.of("ReorderTasks")[0].task_ids) == ["b", "a"]
    assert await colour.call(client.tasks.delete, "s", "t") is None
    await colour.call(client.tasks.delete, "s", "t", allow_missing=True, request_id="r")
    plain, full = server.of("DeleteTask")
    assert (plain.session_id, plain.task_id, plain.allow_missing) == ("s", "t", False)
    assert plain.request_id
    assert full == DeleteTaskRequest(
        session_id="s", task_id="t", allow_missing=True, request_id="r"
    )


async def test_handles_have_the_same_without_the_id(colour, server, client) -> None:
    server.on("GetSession", session_pb2.Session(session_id="s"))
    for method in ("CreateTask", "GetTask", "UpdateTask"):
        server.on(method, task())
    server.on("ListTasks", ListTasksResponse(tasks=[task()]))
    server.on("ReorderTasks", ReorderTasksResponse(task_ids=["t"]))
    server.on("DeleteTask", DeleteTaskResponse())
    tasks = (await colour.call(client.get_session, "s")).tasks
    assert (
        await colour.call(tasks.create, task_id="t", status="running", message_seqs=[1])
    ).task_id == "t"
    assert (await colour.call(tasks.get, "t")).task_id == "t"
    assert (await colour.call(tasks.update, "t", status="success", link=[2])).task_id == "t"
    assert [
        got.task_id for got in await colour.collect(tasks.list(status="running", page_size=3))
    ] == ["t"]
    assert await colour.call(tasks.reorder, ["t"]) == ["t"]
    await colour.call(tasks.delete, "t", allow_missing=True)
    calls = [call for call in server.received if call.method != "GetSession"]
    assert {call.request.session_id for call in calls} == {"s"}
    assert len(calls) == 6
    assert server.of("CreateTask")[0].task.status == task_pb2.TASK_STATUS_RUNNING
    assert list(server.of("UpdateTask")[0].link_seqs) == [2]
    assert server.of("ListTasks")[0].page_size == 3


@pytest.mark.parametrize(
    ("reason", "code", "error"),
    [
        ("TASK_NOT_FOUND", grpc.StatusCode.NOT_FOUND, errors.TaskNotFound),
        ("TASK_ALREADY_EXISTS", grpc.StatusCode.ALREADY_EXISTS, errors.TaskAlreadyExists),
        ("LIMIT_EXCEEDED", grpc.StatusCode.FAILED_PRECONDITION, errors.LimitExceeded),
        ("ETAG_MISMATCH", grpc.StatusCode.ABORTED, errors.ETagMismatch),
    ],
)
async def test_errors_are_typed(
    colour, server, client, reason: str, code: grpc.StatusCode, error: type[Exception]
) -> None:
    server.on("CreateTask", server.abort(code, "no", reason=reason))
    server.on("ListTasks", server.abort(code, "no", reason=reason))
    with pytest.raises(error):
        await colour.call(client.tasks.create, "s")
    with pytest.raises(error):
        await colour.collect(client.tasks.list("s"))


async def test_a_change_is_repeated_with_its_request_id(colour, server, client, impatient) -> None:
    server.on("CreateTask", server.abort(grpc.StatusCode.UNAVAILABLE, "gone"), task())
    await colour.call(client.tasks.create, "s")
    first, second = server.of("CreateTask")
    assert first == second
    assert first.request_id
