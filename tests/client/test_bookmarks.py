"""client.bookmarks and session.bookmarks: their requests and results."""

import json
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import AsyncClient, Bookmark, InvalidField, errors
from sessiond.v1 import bookmark_pb2, message_pb2, session_pb2
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    DeleteBookmarkResponse,
    GetBookmarkRequest,
    ListBookmarksRequest,
    ListBookmarksResponse,
)
from sessiond.v1.session_service_pb2 import (
    MESSAGE_ORDER_DESC,
    MESSAGE_VIEW_BASIC,
    GetMessagesRequest,
    GetMessagesResponse,
)


def bookmark(name: str = "b", seq: int = 3) -> bookmark_pb2.Bookmark:
    times = {"create_time": Timestamp(seconds=1), "update_time": Timestamp(seconds=2)}
    return bookmark_pb2.Bookmark(name=name, seq=seq, description="d", **times)


def batch(*seqs: int, token: str = "") -> GetMessagesResponse:
    messages = [
        message_pb2.Message(
            seq=seq, json='{"role":"user","content":""}', format=message_pb2.FORMAT_OPENAI
        )
        for seq in seqs
    ]
    return GetMessagesResponse(messages=messages, resume_token=token)


async def test_a_bookmark_reads_by_attribute_and_by_key(colour, server, client) -> None:
    server.on("GetBookmark", bookmark())
    got = await colour.call(client.bookmarks.get, "s", "b")
    assert server.of("GetBookmark") == [GetBookmarkRequest(session_id="s", name="b")]
    assert isinstance(got, Bookmark)
    assert (got.name, got.seq, got.description) == ("b", 3, "d")
    assert got.created_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert got["createdAt"] == "1970-01-01T00:00:01Z"
    assert json.loads(json.dumps(got.to_dict())) == {
        "name": "b",
        "seq": 3,
        "description": "d",
        "created_at": "1970-01-01T00:00:01Z",
        "updated_at": "1970-01-01T00:00:02Z",
    }
    assert repr(got) == "Bookmark(name='b', seq=3)"
    assert got == Bookmark(bookmark())
    assert hash(got) == hash(Bookmark(bookmark()))
    assert got != Bookmark(bookmark(seq=4))


async def test_create(colour, server, client) -> None:
    server.on("CreateBookmark", bookmark())
    await colour.call(client.bookmarks.create, "s", "b")
    await colour.call(
        client.bookmarks.create, "s", "b", seq=0, description="d", replace=True, request_id="r"
    )
    plain, full = server.of("CreateBookmark")
    assert plain.bookmark == bookmark_pb2.Bookmark(name="b")
    assert plain.request_id
    assert full == CreateBookmarkRequest(
        session_id="s",
        bookmark=bookmark_pb2.Bookmark(name="b", seq=0, description="d"),
        replace=True,
        request_id="r",
    )


async def test_move_and_update(colour, server, client) -> None:
    server.on("UpdateBookmark", bookmark())
    await colour.call(client.bookmarks.move, "s", "b")
    await colour.call(client.bookmarks.move, "s", "b", 0, request_id="r")
    await colour.call(client.bookmarks.update, "s", "b", seq=2, description="")
    await colour.call(client.bookmarks.update, "s", "b", new_name="c")
    newest, start, changed, renamed = server.of("UpdateBookmark")
    assert newest.bookmark == bookmark_pb2.Bookmark(name="b")
    assert list(newest.update_mask.paths) == ["seq"]
    assert newest.request_id
    assert start.bookmark == bookmark_pb2.Bookmark(name="b", seq=0)
    assert start.request_id == "r"
    assert changed.bookmark == bookmark_pb2.Bookmark(name="b", seq=2)
    assert list(changed.update_mask.paths) == ["seq", "description"]
    assert (renamed.bookmark, renamed.new_name) == (bookmark_pb2.Bookmark(name="b"), "c")
    assert not renamed.HasField("update_mask")


@pytest.mark.parametrize(
    ("call", "arguments", "field"),
    [
        ("create", {"name": 7}, "name"),
        ("create", {"name": "b", "seq": "x"}, "seq"),
        ("create", {"name": "b", "description": "\ud800"}, "description"),
        ("update", {"name": "b", "new_name": ""}, "new_name"),
        ("move", {"name": "b", "seq": 2**63}, "seq"),
    ],
)
async def test_a_bad_value_is_not_sent(
    colour, server, client, call: str, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        await colour.call(getattr(client.bookmarks, call), "s", **arguments)
    assert caught.value.field_violations[0].field == field
    assert server.received == []


async def test_lists_page_by_page(colour, server, client) -> None:
    pages = [
        ListBookmarksResponse(bookmarks=[bookmark("a"), bookmark("b")], next_page_token="2"),
        ListBookmarksResponse(),
    ]
    server.on("ListBookmarks", *pages)
    listing = client.bookmarks.list("s", page_size=2)
    assert server.received == []
    assert [got.name for got in await colour.collect(listing)] == ["a", "b"]
    first, second = server.of("ListBookmarks")
    assert first == ListBookmarksRequest(session_id="s", page_size=2)
    assert second == ListBookmarksRequest(session_id="s", page_size=2, page_token="2")


async def test_await_makes_a_list(server) -> None:
    server.on("ListBookmarks", ListBookmarksResponse(bookmarks=[bookmark("a")]))
    server.on("GetMessages", [batch(4, token="t")])
    async with AsyncClient(server.target) as client:
        assert [got.name for got in await client.bookmarks.list("s")] == ["a"]
        assert [message.seq for message in await client.bookmarks.messages_since("s", "a")] == [4]


async def test_delete(colour, server, client) -> None:
    server.on("DeleteBookmark", DeleteBookmarkResponse())
    assert await colour.call(client.bookmarks.delete, "s", "b") is None
    await colour.call(client.bookmarks.delete, "s", "b", allow_missing=True, request_id="r")
    plain, full = server.of("DeleteBookmark")
    assert (plain.session_id, plain.name, plain.allow_missing) == ("s", "b", False)
    assert plain.request_id
    assert full == DeleteBookmarkRequest(
        session_id="s", name="b", allow_missing=True, request_id="r"
    )


async def test_messages_since_a_bookmark(colour, server, client, impatient) -> None:
    server.on(
        "GetMessages",
        [batch(4, token="t4"), server.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")],
        [batch(5, token="t5")],
    )
    since = client.bookmarks.messages_since(
        "s", "b", through_seq=9, limit=3, order="desc", roles=["user"], view="basic"
    )
    assert server.received == []
    assert [message.seq for message in await colour.collect(since)] == [4, 5]
    first, second = server.of("GetMessages")
    options = {
        "through_seq": 9,
        "limit": 3,
        "order": MESSAGE_ORDER_DESC,
        "roles": [message_pb2.ROLE_USER],
        "view": MESSAGE_VIEW_BASIC,
    }
    assert first == GetMessagesRequest(session_id="s", after_bookmark="b", **options)
    assert second == GetMessagesRequest(session_id="s", resume_token="t4", **options)


async def test_reads_begin_at_a_bookmark_or_a_seq(colour, server, client) -> None:
    server.on("GetMessages", [batch()])
    await colour.collect(client.sessions.get_messages("s", after_bookmark="b"))
    assert server.of("GetMessages")[0].after_bookmark == "b"
    with pytest.raises(InvalidField) as caught:
        client.sessions.get_messages("s", after_bookmark="b", after_seq=0)
    assert caught.value.field_violations[0].field == "after_bookmark"


async def test_handles_have_the_same_without_the_id(colour, server, client) -> None:
    server.on("GetSession", session_pb2.Session(session_id="s"))
    for method in ("CreateBookmark", "GetBookmark", "UpdateBookmark"):
        server.on(method, bookmark())
    server.on("ListBookmarks", ListBookmarksResponse(bookmarks=[bookmark()]))
    server.on("DeleteBookmark", DeleteBookmarkResponse())
    server.on("GetMessages", [batch(4, token="t")])
    session = await colour.call(client.get_session, "s")
    bookmarks = session.bookmarks
    assert (await colour.call(bookmarks.create, "b", seq=1, replace=True)).name == "b"
    assert (await colour.call(bookmarks.get, "b")).name == "b"
    assert (await colour.call(bookmarks.move, "b", 2)).name == "b"
    assert (await colour.call(bookmarks.update, "b", description="d", new_name="c")).name == "b"
    assert [got.name for got in await colour.collect(bookmarks.list(page_size=3))] == ["b"]
    assert [
        message.seq for message in await colour.collect(bookmarks.messages_since("b", limit=1))
    ] == [4]
    assert [
        message.seq for message in await colour.collect(session.get_messages(after_bookmark="b"))
    ] == [4]
    await colour.call(bookmarks.delete, "b", allow_missing=True)
    calls = [call for call in server.received if call.method != "GetSession"]
    assert {call.request.session_id for call in calls} == {"s"}
    assert len(calls) == 8
    assert [request.after_bookmark for request in server.of("GetMessages")] == ["b", "b"]
    assert server.of("UpdateBookmark")[1].new_name == "c"


@pytest.mark.parametrize(
    ("reason", "code", "error"),
    [
        ("BOOKMARK_NOT_FOUND", grpc.StatusCode.NOT_FOUND, errors.BookmarkNotFound),
        ("BOOKMARK_ALREADY_EXISTS", grpc.StatusCode.ALREADY_EXISTS, errors.BookmarkAlreadyExists),
    ],
)
async def test_errors_are_typed(
    colour, server, client, reason: str, code: grpc.StatusCode, error: type[Exception]
) -> None:
    server.on("CreateBookmark", server.abort(code, "no", reason=reason))
    server.on("GetMessages", server.abort(code, "no", reason=reason))
    with pytest.raises(error):
        await colour.call(client.bookmarks.create, "s", "b")
    with pytest.raises(error):
        await colour.collect(client.bookmarks.messages_since("s", "b"))
