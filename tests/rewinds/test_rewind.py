"""RewindSession: removed messages, appended messages, and counters."""

import asyncio
import json
from typing import Any

import grpc
import pytest

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    GetBookmarkRequest,
    ListBookmarksRequest,
)
from sessiond.v1.message_pb2 import Message
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest, ListTasksRequest

from ..copies.helpers import Query, said
from ..support.wire import Wire, error_of, openai, pictures


async def letters(wire: Wire, session_id: str, text: str) -> None:
    """Create a session that has one message for each letter."""
    await wire.create(session_id)
    for letter in text:
        await wire.store(session_id, letter)


async def bookmark(wire: Wire, session_id: str, name: str, seq: int) -> None:
    mark = Bookmark(name=name, seq=seq)
    await wire.bookmarks.CreateBookmark(CreateBookmarkRequest(session_id=session_id, bookmark=mark))


class TestCut:
    @pytest.mark.parametrize(
        ("to", "left"),
        [
            ({"to_seq": 3}, "abc"),
            ({"to_seq": 0}, ""),
            ({"to_seq": 5}, "abcde"),
            ({"drop_last": 1}, "abcd"),
            ({"drop_last": 5}, ""),
            ({"drop_last": 9}, ""),
            ({"to_bookmark": "here"}, "ab"),
        ],
    )
    async def test_the_messages_after_it_are_removed(
        self, wire: Wire, to: dict[str, Any], left: str
    ) -> None:
        await letters(wire, "s", "abcde")
        await bookmark(wire, "s", "here", 2)
        done = await wire.rewind("s", **to)
        removed = 5 - len(left)
        assert (done.last_seq, done.removed_count, done.first_seq) == (len(left), removed, 0)
        assert not done.HasField("create_time")
        assert "".join(await wire.texts("s")) == left
        session = await wire.get("s")
        assert (session.last_seq, session.message_count) == (len(left), len(left))
        assert session.epoch == done.epoch == (1 if removed else 0)

    async def test_appends_go_on_after_it(self, wire: Wire) -> None:
        await letters(wire, "s", "abcde")
        await wire.rewind("s", to_seq=2)
        stored = await wire.store("s", "x", "y")
        assert (stored.first_seq, stored.last_seq, stored.epoch) == (3, 4, 1)
        assert await wire.texts("s") == ["a", "b", "x", "y"]
        assert [message.seq for message in await wire.read("s")] == [1, 2, 3, 4]
        assert said([await wire.message("s", 3)]) == ["x"]
        assert (await error_of(wire.message("s", 5))).reason == "MESSAGE_NOT_FOUND"

    async def test_messages_take_the_place_of_others_in_the_same_commit(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        done = await wire.rewind("s", "x", "y", "z", drop_last=1)
        assert (done.first_seq, done.last_seq, done.removed_count) == (3, 5, 1)
        read = await wire.read("s")
        assert said(read) == ["a", "b", "x", "y", "z"]
        assert read[2].create_time == done.create_time

    async def test_any_number_of_rewinds_at_any_place(self, wire: Wire) -> None:
        await wire.create("s")
        expected: list[str] = []
        for i in range(60):
            await wire.store("s", f"{i}", f"{i}'")
            expected += [f"{i}", f"{i}'"]
            cut = (i * 7919) % (len(expected) + 1) if i % 3 else len(expected) - 1
            del expected[cut:]
            await wire.rewind("s", to_seq=cut)
            assert await wire.texts("s") == expected
            assert await wire.texts("s", order="MESSAGE_ORDER_DESC") == expected[::-1]
        assert (await wire.get("s")).epoch <= 60

    async def test_removed_messages_are_returned_newest_last(self, wire: Wire) -> None:
        await letters(wire, "s", "abcdef")
        before = await wire.read("s")
        done = await wire.rewind("s", "x", to_seq=2, return_removed=3)
        assert list(done.removed) == before[3:]
        assert done.removed_count == 4
        done = await wire.rewind("s", drop_last=2, return_removed=10)
        assert said(list(done.removed)) == ["b", "x"]

    async def test_returned_messages_end_at_4_mib(self, wire: Wire) -> None:
        await wire.create("s")
        await wire.store("s", *(str(i) * 1_000_000 for i in range(8)))
        done = await wire.rewind("s", to_seq=0, return_removed=1000)
        assert [message.seq for message in done.removed] == [4, 5, 6, 7, 8]
        await wire.store("s", "a", "b" * 6_000_000)
        done = await wire.rewind("s", to_seq=0, return_removed=1000)
        assert [message.seq for message in done.removed] == [2]


class TestCounters:
    async def test_they_are_those_of_a_session_without_the_messages(self, wire: Wire) -> None:
        await wire.create("other")
        for session_id in ("s", "other"):
            await wire.create(session_id, get_or_create=True)
            await wire.store(session_id, openai("Hello, there", "system"))
        await wire.store("s", "a question", "another question", "x" * 5000)
        await wire.rewind("s", to_seq=1)
        assert _counters(await wire.get("s")) == _counters(await wire.get("other"))
        for session_id in ("s", "other"):
            await wire.store(session_id, "What now?")
        assert _counters(await wire.get("s")) == _counters(await wire.get("other"))
        assert (await wire.get("s")).summary == "What now?"

    async def test_messages_without_running_totals_are_subtracted(
        self, wire: Wire, query: Query
    ) -> None:
        await letters(wire, "s", "abcde")
        query("UPDATE messages SET total_bytes = NULL, total_tokens = NULL")
        await letters(wire, "other", "abc")
        await wire.rewind("s", to_seq=3)
        assert _counters(await wire.get("s")) == _counters(await wire.get("other"))

    async def test_an_empty_session_begins_anew(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        await wire.rewind("s", to_seq=0)
        session = await wire.get("s")
        assert _counters(session) == (0, 0, 0, 0, "")


def _counters(session: Any) -> tuple[Any, ...]:
    return (
        session.last_seq,
        session.content_bytes,
        session.token_count,
        session.estimated_token_count,
        session.summary,
    )


class TestWhatRefersToMessages:
    async def test_bookmarks_after_the_cut_are_removed(self, wire: Wire) -> None:
        await letters(wire, "s", "abcde")
        for seq in (0, 3, 4, 5):
            await bookmark(wire, "s", f"b{seq}", seq)
        await wire.rewind("s", "x", "y", to_seq=3)
        page = await wire.bookmarks.ListBookmarks(ListBookmarksRequest(session_id="s"))
        assert [mark.name for mark in page.bookmarks] == ["b0", "b3"]
        error = await error_of(
            wire.bookmarks.GetBookmark(GetBookmarkRequest(session_id="s", name="b5"))
        )
        assert error.reason == "BOOKMARK_NOT_FOUND"

    async def test_links_of_tasks_after_the_cut_are_removed(self, wire: Wire) -> None:
        await letters(wire, "s", "abcde")
        for task_id, seqs in (("t1", [1, 3, 5]), ("t2", [1, 2]), ("t3", [4])):
            task = Task(task_id=task_id, message_seqs=seqs)
            await wire.tasks.CreateTask(CreateTaskRequest(session_id="s", task=task))
        before = await wire.tasks.ListTasks(ListTasksRequest(session_id="s"))
        await wire.rewind("s", to_seq=3)
        after = await wire.tasks.ListTasks(ListTasksRequest(session_id="s"))
        assert [list(task.message_seqs) for task in after.tasks] == [[1, 3], [1, 2], []]
        # Only the tasks that changed have another etag.
        changed = [a.etag != b.etag for a, b in zip(after.tasks, before.tasks, strict=True)]
        assert changed == [True, False, True]

    async def test_parents_are_removed_with_their_messages(self, wire: Wire, query: Query) -> None:
        await letters(wire, "s", "abcd")
        await wire.store("s", Message(parent_seq=2, format=1, json=openai("e").json))
        await wire.rewind("s", drop_last=1)
        assert query("SELECT count(*) FROM parent_links JOIN segments ON src_log = log") == [(1,)]
        read = await wire.read("s")
        assert [message.parent_seq for message in read] == [0] * 4
        error = await error_of(
            wire.sessions.RewindSession(
                RewindSessionRequest(
                    session_id="s",
                    to_seq=2,
                    messages=[Message(parent_seq=3, format=1, json=openai("f").json)],
                )
            )
        )
        assert error.reason == "PARENT_NOT_FOUND"
        assert await wire.texts("s") == ["a", "b", "c", "d"]


class TestConditions:
    async def test_an_expected_last_seq(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        error = await error_of(wire.rewind("s", to_seq=1, expected_last_seq=2))
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "SEQUENCE_CONFLICT")
        assert error.metadata["last_seq"] == "3"
        await wire.rewind("s", to_seq=1, expected_last_seq=3)

    async def test_an_expected_epoch_tells_a_session_that_has_grown_again(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        await wire.rewind("s", "x", drop_last=1)
        for call in (
            wire.rewind("s", drop_last=1, expected_last_seq=3, expected_epoch=0),
            wire.store("s", "y", expected_last_seq=3, expected_epoch=0),
            wire.import_("s", [[openai("y")]], expected_last_seq=3, expected_epoch=0),
            wire.read("s", expected_epoch=0),
        ):
            error = await error_of(call)
            assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "HISTORY_REWOUND")
            assert (error.metadata["epoch"], error.metadata["last_seq"]) == ("1", "3")
        await wire.store("s", "y", expected_last_seq=3, expected_epoch=1)
        assert (await wire.batches("s", expected_epoch=1))[-1].epoch == 1
        await wire.rewind("s", drop_last=1, expected_epoch=1)

    async def test_batches_check_the_epoch_of_each_request(self, wire: Wire) -> None:
        from sessiond.v1.session_service_pb2 import StoreMessagesRequest

        await letters(wire, "s", "abc")
        await letters(wire, "t", "abc")
        await wire.rewind("s", drop_last=1)
        stored = await wire.store_batch(
            *(
                StoreMessagesRequest(session_id=s, messages=[openai("x")], expected_epoch=epoch)
                for s, epoch in (("s", 0), ("t", 0), ("s", 1), ("t", 1))
            )
        )
        assert [getattr(end, "reason", "") for end in stored] == [
            "HISTORY_REWOUND",
            "",
            "",
            "HISTORY_REWOUND",
        ]

    async def test_a_destroyed_session_is_not_rewound(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        await wire.destroy("s")
        assert (await error_of(wire.rewind("s", to_seq=0))).reason == "SESSION_DESTROYED"

    @pytest.mark.parametrize(
        ("fields", "field", "reason"),
        [
            ({}, "to", "INVALID_FIELD"),
            ({"to_seq": -1}, "to_seq", "INVALID_FIELD"),
            ({"to_seq": 4}, "to_seq", "MESSAGE_NOT_FOUND"),
            ({"drop_last": 0}, "drop_last", "INVALID_FIELD"),
            ({"to_bookmark": "none"}, "to_bookmark", "BOOKMARK_NOT_FOUND"),
            ({"to_bookmark": ""}, "to_bookmark", "INVALID_FIELD"),
            ({"to_seq": 1, "return_removed": 1001}, "return_removed", "INVALID_FIELD"),
            ({"to_seq": 1, "return_removed": -1}, "return_removed", "INVALID_FIELD"),
            ({"to_seq": 1, "expected_epoch": -1}, "expected_epoch", "INVALID_FIELD"),
            ({"to_seq": 1, "expected_last_seq": -1}, "expected_last_seq", "INVALID_FIELD"),
            ({"to_seq": 1, "request_id": "x" * 129}, "request_id", "INVALID_FIELD"),
        ],
    )
    async def test_a_wrong_field_is_named(
        self, wire: Wire, fields: dict[str, Any], field: str, reason: str
    ) -> None:
        await letters(wire, "s", "abc")
        error = await error_of(wire.rewind("s", **fields))
        assert (error.reason, list(error.fields)) == (reason, [field])
        assert await wire.texts("s") == ["a", "b", "c"]

    async def test_a_message_that_cannot_be_stored_undoes_the_rewind(self, wire: Wire) -> None:
        await letters(wire, "s", "abc")
        request = RewindSessionRequest(session_id="s", to_seq=1, messages=[pictures("0" * 64)])
        error = await error_of(wire.sessions.RewindSession(request))
        assert error.reason == "ASSET_NOT_FOUND"
        assert await wire.texts("s") == ["a", "b", "c"]
        assert (await wire.get("s")).epoch == 0


class TestRepetition:
    async def test_it_returns_what_the_first_request_did(self, wire: Wire) -> None:
        await letters(wire, "s", "abcde")
        fields = {"drop_last": 2, "return_removed": 5, "request_id": "r"}
        done = await wire.rewind("s", "x", **fields)
        await wire.store("s", "y")
        await wire.rewind("s", to_seq=1)
        assert await wire.rewind("s", "x", **fields) == done
        assert said(list(done.removed)) == ["d", "e"]
        assert await wire.texts("s") == ["a"]
        error = await error_of(wire.rewind("s", "z", **fields))
        assert error.reason == "REQUEST_ID_REUSED"

    async def test_a_repeated_append_does_not_bring_removed_messages_back(self, wire: Wire) -> None:
        await letters(wire, "s", "ab")
        first = await wire.store("s", "c", request_id="r")
        await wire.rewind("s", to_seq=1)
        again = await wire.store("s", "c", request_id="r")
        assert (again, again.epoch) == (first, 0)
        assert await wire.texts("s") == ["a"]

    async def test_one_message_goes_to_each_of_many_callers(self, wire: Wire) -> None:
        await letters(wire, "s", "abcdefghijklmnop")
        popped = await asyncio.gather(
            *(wire.rewind("s", drop_last=1, return_removed=1) for _ in range(20))
        )
        texts = [json.loads(m.json)["content"] for done in popped for m in done.removed]
        assert sorted(texts) == list("abcdefghijklmnop")
        assert sum(done.removed_count for done in popped) == 16
