"""BookmarkService: creating, reading, listing, changing and deleting bookmarks."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import (
    CreateBookmarkRequest,
    DeleteBookmarkRequest,
    GetBookmarkRequest,
    ListBookmarksRequest,
    UpdateBookmarkRequest,
)
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.server import Running

from ..support.wire import Wire, error_of
from ..tasks.helpers import invalid_field

Query = Callable[..., list[tuple[object, ...]]]


async def create(
    wire: Wire,
    name: str,
    *,
    session: str = "one",
    replace: bool = False,
    request_id: str = "",
    **fields: Any,
) -> Bookmark:
    bookmark = Bookmark(name=name, **fields)
    request = CreateBookmarkRequest(
        session_id=session, bookmark=bookmark, replace=replace, request_id=request_id
    )
    return await wire.bookmarks.CreateBookmark(request)


async def get(wire: Wire, name: str, session: str = "one") -> Bookmark:
    return await wire.bookmarks.GetBookmark(GetBookmarkRequest(session_id=session, name=name))


async def update(
    wire: Wire, bookmark: Bookmark, *paths: str, session: str = "one", **fields: Any
) -> Bookmark:
    request = UpdateBookmarkRequest(session_id=session, bookmark=bookmark, **fields)
    if paths:
        request.update_mask.CopyFrom(FieldMask(paths=paths))
    return await wire.bookmarks.UpdateBookmark(request)


async def delete(wire: Wire, name: str, *, session: str = "one", **fields: Any) -> None:
    await wire.bookmarks.DeleteBookmark(
        DeleteBookmarkRequest(session_id=session, name=name, **fields)
    )


async def pages(wire: Wire, *, session: str = "one", **fields: Any) -> list[list[Bookmark]]:
    request = ListBookmarksRequest(session_id=session, **fields)
    found = []
    while True:
        page = await wire.bookmarks.ListBookmarks(request)
        found.append([*page.bookmarks])
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def names(wire: Wire, **fields: Any) -> list[str]:
    return [bookmark.name for page in await pages(wire, **fields) for bookmark in page]


@pytest.fixture
async def one(wire: Wire) -> None:
    """A session "one" of five messages."""
    await wire.create("one")
    await wire.store("one", *"abcde")


pytestmark = pytest.mark.usefixtures("one")


class TestCreate:
    async def test_a_new_bookmark_has_what_its_creator_chose(self, wire: Wire) -> None:
        created = await create(wire, "b", seq=3, description="where\nthe tests ☕ began")
        assert created == await get(wire, "b")
        assert (created.name, created.seq, created.description) == (
            "b",
            3,
            "where\nthe tests ☕ began",
        )
        assert created.create_time == created.update_time
        assert created.create_time.seconds > 0

    async def test_a_bookmark_is_at_the_newest_message_by_default(self, wire: Wire) -> None:
        assert (await create(wire, "newest")).seq == 5
        first = await create(wire, "first", seq=0)
        assert first.HasField("seq")
        assert first.seq == 0
        await wire.create("empty")
        assert (await create(wire, "b", session="empty")).seq == 0
        await wire.store("one", "f")
        assert (await get(wire, "newest")).seq == 5

    async def test_output_only_fields_are_ignored(self, wire: Wire) -> None:
        bookmark = Bookmark(name="b")
        bookmark.create_time.FromSeconds(1)
        bookmark.update_time.FromSeconds(1)
        created = await wire.bookmarks.CreateBookmark(
            CreateBookmarkRequest(session_id="one", bookmark=bookmark)
        )
        assert created.create_time.seconds > 1 < created.update_time.seconds

    @pytest.mark.parametrize(
        "name", ["a/b", "naïve ☕", "x" * 128, "with space", "%s", "'; DROP TABLE bookmarks"]
    )
    async def test_names_are_the_callers_own_strings(self, wire: Wire, name: str) -> None:
        assert (await create(wire, name)).name == name
        assert (await get(wire, name)).name == name
        await delete(wire, name)
        await create(wire, "b")
        assert (await update(wire, Bookmark(name="b"), new_name=name)).name == name
        await delete(wire, name)

    @pytest.mark.parametrize(
        "name", ["", "x" * 129, "a\0", "a\nb", " a", "a ", "\u00a0a", "a\x85b"]
    )
    async def test_malformed_names_name_the_field(self, wire: Wire, name: str) -> None:
        assert invalid_field(await error_of(create(wire, name))) == "bookmark.name"
        assert (
            invalid_field(await error_of(update(wire, Bookmark(name=name, seq=1))))
            == "bookmark.name"
        )
        assert invalid_field(await error_of(get(wire, name))) == "name"
        assert invalid_field(await error_of(delete(wire, name))) == "name"
        if name:
            assert (
                invalid_field(await error_of(update(wire, Bookmark(name="b"), new_name=name)))
                == "new_name"
            )

    async def test_replace_moves_an_existing_bookmark(self, wire: Wire) -> None:
        before = await create(wire, "b", seq=1, description="d")
        after = await create(wire, "b", replace=True)
        assert (after.seq, after.description) == (5, "")
        assert after.create_time == before.create_time
        assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
        assert (await create(wire, "b", replace=True, seq=2, description="e")).seq == 2
        assert (await create(wire, "new", replace=True)).seq == 5
        assert await names(wire) == ["b", "new"]

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"seq": -1}, "bookmark.seq"),
            ({"description": "x" * 1025}, "bookmark.description"),
            ({"description": "a\0"}, "bookmark.description"),
        ],
    )
    async def test_wrong_requests_name_the_field(
        self, wire: Wire, fields: dict[str, Any], field: str
    ) -> None:
        assert invalid_field(await error_of(create(wire, "b", **fields))) == field
        before = await create(wire, "b", seq=1)
        assert invalid_field(await error_of(update(wire, Bookmark(name="b", **fields)))) == field
        assert invalid_field(await error_of(create(wire, "b", replace=True, **fields))) == field
        assert await get(wire, "b") == before

    async def test_a_description_may_have_1024_characters(self, wire: Wire) -> None:
        assert (await create(wire, "b", description="☕" * 1024)).description == "☕" * 1024

    async def test_the_message_must_exist(self, wire: Wire) -> None:
        before = await create(wire, "old", seq=1)
        for call in (
            create(wire, "b", seq=6),
            create(wire, "old", seq=6, replace=True),
            update(wire, Bookmark(name="old", seq=6)),
        ):
            error = await error_of(call)
            assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
            assert (
                error.metadata["session_id"],
                error.metadata["seq"],
                error.metadata["last_seq"],
            ) == ("one", "6", "5")
            assert list(error.fields) == ["bookmark.seq"]
        assert await pages(wire) == [[before]]

    async def test_replacing_observes_the_limit(self, wire: Wire, query: Query) -> None:
        fill(query, 1000)
        error = await error_of(create(wire, "more", replace=True))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_EXCEEDED")
        assert (await create(wire, "f1", replace=True)).seq == 5


class TestGetAndList:
    async def test_bookmarks_are_listed_by_seq_then_by_name(self, wire: Wire) -> None:
        assert await pages(wire) == [[]]
        for name, seq in (("c", 2), ("a", 4), ("ä", 2), ("B", 2), ("z", 0)):
            await create(wire, name, seq=seq)
        assert await names(wire) == ["z", "B", "c", "ä", "a"]
        assert [[b.name for b in page] for page in await pages(wire, page_size=2)] == [
            ["z", "B"],
            ["c", "ä"],
            ["a"],
        ]
        assert len(await pages(wire, page_size=5)) == 1

    async def test_seq_of_finds_bookmarks_of_the_project_only(
        self, wire: Wire, server: Running, query: Query
    ) -> None:
        store = BookmarkStore(server.database)
        key = session_key(DEFAULT_PROJECT_ID, "one")
        await create(wire, "b", seq=3)
        assert await store.seq_of(key, DEFAULT_PROJECT_ID, "b") == 3
        assert await store.seq_of(key, DEFAULT_PROJECT_ID, "c") is None
        assert await store.seq_of(key, key, "b") is None
        await wire.delete("one")
        assert await store.seq_of(key, DEFAULT_PROJECT_ID, "b") is None


class TestUpdate:
    async def test_a_mask_names_what_changes(self, wire: Wire) -> None:
        before = await create(wire, "b", seq=1, description="d")
        after = await update(wire, Bookmark(name="b", seq=2, description="e"), "seq")
        assert (after.seq, after.description, after.create_time) == (2, "d", before.create_time)
        assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
        assert after == await get(wire, "b")
        assert (
            await update(wire, Bookmark(name="b", seq=3, description="e"), "description")
        ).seq == 2

    async def test_a_named_field_that_is_unset_gets_its_default(self, wire: Wire) -> None:
        await create(wire, "b", seq=1, description="d")
        after = await update(wire, Bookmark(name="b"), "seq", "description")
        assert (after.seq, after.description) == (5, "")

    async def test_without_a_mask_set_fields_are_taken(self, wire: Wire) -> None:
        await create(wire, "b", seq=1, description="d")
        after = await update(wire, Bookmark(name="b", seq=0))
        assert (after.seq, after.description) == (0, "d")
        after = await update(wire, Bookmark(name="b", description="e"))
        assert (after.seq, after.description) == (0, "e")

    async def test_a_bookmark_is_renamed(self, wire: Wire) -> None:
        before = await create(wire, "b", seq=1)
        after = await update(wire, Bookmark(name="b", description="d"), new_name="c")
        assert (after.name, after.seq, after.description, after.create_time) == (
            "c",
            1,
            "d",
            before.create_time,
        )
        assert await names(wire) == ["c"]
        assert (await update(wire, Bookmark(name="c"), new_name="c")).name == "c"
        assert (await update(wire, Bookmark(name="c"), new_name="b")).name == "b"

    async def test_renaming_to_an_existing_name_is_refused(self, wire: Wire) -> None:
        before = await create(wire, "b", seq=1)
        await create(wire, "c")
        error = await error_of(update(wire, Bookmark(name="b", seq=2), new_name="c"))
        assert (error.code, error.reason) == (
            grpc.StatusCode.ALREADY_EXISTS,
            "BOOKMARK_ALREADY_EXISTS",
        )
        assert (error.metadata["session_id"], error.metadata["name"]) == ("one", "c")
        assert list(error.fields) == ["new_name"]
        assert await get(wire, "b") == before

    @pytest.mark.parametrize("paths", [["name"], ["*"], ["seq", "create_time"]])
    async def test_a_mask_with_an_unknown_field_is_refused(
        self, wire: Wire, paths: list[str]
    ) -> None:
        await create(wire, "b")
        assert (
            invalid_field(await error_of(update(wire, Bookmark(name="b", seq=1), *paths)))
            == "update_mask"
        )

    async def test_an_update_without_a_change_is_refused(self, wire: Wire) -> None:
        await create(wire, "b")
        assert invalid_field(await error_of(update(wire, Bookmark(name="b")))) == "update_mask"
        assert (
            invalid_field(
                await error_of(update(wire, Bookmark(name="b", seq=1), update_mask=FieldMask()))
            )
            == "update_mask"
        )

    async def test_one_of_many_renames_to_the_same_name_wins(self, wire: Wire) -> None:
        for i in range(8):
            await create(wire, f"b{i}")
        calls = (update(wire, Bookmark(name=f"b{i}"), new_name="new") for i in range(8))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, Bookmark) for result in results) == 1
        found = await names(wire)
        assert (len(found), found.count("new")) == (8, 1)

    async def test_concurrent_creations_make_one_bookmark(self, wire: Wire) -> None:
        results = await asyncio.gather(
            *(create(wire, "b") for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(result, Bookmark) for result in results) == 1
        replaced = await asyncio.gather(
            *(create(wire, "c", replace=True, seq=i % 6) for i in range(12))
        )
        assert (await get(wire, "c")).seq in range(6)
        assert len({bookmark.create_time.ToNanoseconds() for bookmark in replaced}) == 1

    async def test_a_bookmark_at_the_newest_message_is_at_a_stored_one(self, wire: Wire) -> None:
        made = await asyncio.gather(
            *(create(wire, f"b{i}") if i % 2 else wire.store("one", "x") for i in range(20))
        )
        assert all(5 <= bookmark.seq <= 15 for bookmark in made if isinstance(bookmark, Bookmark))


class TestRequestIds:
    async def test_retries_keep_the_seq_of_the_first_request(self, wire: Wire) -> None:
        await create(wire, "moved", seq=1)
        created = await create(wire, "b", request_id="r")
        updated = await update(wire, Bookmark(name="moved"), "seq", request_id="u")
        await wire.store("one", "f")
        assert await create(wire, "b", request_id="r") == created
        assert await update(wire, Bookmark(name="moved"), "seq", request_id="u") == updated
        error = await error_of(update(wire, Bookmark(name="moved", seq=5), "seq", request_id="u"))
        assert error.reason == "REQUEST_ID_REUSED"

    async def test_concurrent_retries_replace_and_rename_once(self, wire: Wire) -> None:
        created = await asyncio.gather(
            *(create(wire, "b", request_id="r", replace=True) for _ in range(10))
        )
        assert len({bookmark.update_time.ToNanoseconds() for bookmark in created}) == 1
        renamed = await asyncio.gather(
            *(update(wire, Bookmark(name="b"), new_name="c", request_id="u") for _ in range(10))
        )
        assert {bookmark.name for bookmark in renamed} == {"c"}
        await asyncio.gather(*(delete(wire, "c", request_id="d") for _ in range(10)))
        assert await names(wire) == []


class TestSessions:
    async def test_bookmarks_of_a_destroyed_session_can_be_changed(self, wire: Wire) -> None:
        await create(wire, "b", seq=1)
        await wire.destroy("one")
        assert (await get(wire, "b")).seq == 1
        assert (await create(wire, "c")).seq == 5
        assert (await update(wire, Bookmark(name="b"), "seq", new_name="d")).seq == 5
        await delete(wire, "d")
        assert await names(wire) == ["c"]


def fill(query: Query, count: int) -> None:
    """Give every session `count` bookmarks."""
    query(
        "INSERT INTO bookmarks (key, log, name, seq, created_at, updated_at) "
        "SELECT key, log, 'f' || n, n %% 5, now(), now() FROM sessions, generate_series(1, %s) n",
        [count],
    )
