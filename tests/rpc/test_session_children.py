"""Common rules of tasks, bookmarks and listings: ids, pages, retries, locks, projects."""

import asyncio
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1 import (
    bookmark_service_pb2,
    conversation_service_pb2,
    processing_service_pb2,
    session_service_pb2,
    task_service_pb2,
)
from sessiond.v1.session_pb2 import Session
from sessiond_server.core import pagination
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, session_key
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..sessions.test_expiry import pass_time
from ..support.waiting import until_waiting
from ..support.wire import Wire, error_of
from .children import KINDS, Children, Kind, Query, check_missing, check_page_token


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name.lower())
async def children(request: pytest.FixtureRequest, wire: Wire) -> Children:
    """The children of a session "one" with five messages."""
    await wire.create("one")
    await wire.store("one", *"abcde")
    return Children(wire, request.param)


class TestIds:
    async def test_an_id_is_used_once(self, children: Children) -> None:
        before = await children.create("a")
        error = await error_of(children.create("a", **children.kind.change))
        assert error.code == grpc.StatusCode.ALREADY_EXISTS
        assert error.reason == f"{children.kind.name.upper()}_ALREADY_EXISTS"
        assert (error.metadata["session_id"], error.metadata[children.kind.id_field]) == (
            "one",
            "a",
        )
        assert await children.listed() == [before]

    async def test_a_missing_id_is_not_found(self, children: Children) -> None:
        for call in (children.get("a"), children.update("a"), children.delete("a")):
            await check_missing(children, call)
        await children.delete("a", allow_missing=True)
        error = await error_of(children.delete("a", session="none", allow_missing=True))
        assert error.reason == "SESSION_NOT_FOUND"

    async def test_sessions_have_their_own(self, wire: Wire, children: Children) -> None:
        await wire.create("two")
        first = await children.create("a")
        second = await children.create("a", session="two", **children.kind.change)
        assert first != second
        assert await children.get("a") == first
        assert await children.get("a", session="two") == second
        await children.create("b", session="two")
        assert await children.listed() == [first]
        await children.delete("a", session="two")
        assert await children.listed() == [first]
        assert await children.ids(session="two") == ["b"]

    async def test_a_session_has_at_most_a_thousand(self, children: Children, query: Query) -> None:
        children.fill(query, 995)
        results = await asyncio.gather(
            *(children.create(f"a{i}") for i in range(12)), return_exceptions=True
        )
        assert sum(isinstance(result, children.kind.message) for result in results) == 5
        error = await error_of(children.create("more"))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_EXCEEDED")
        assert (error.metadata["what"], error.metadata["limit"]) == (children.table, "1000")
        error = await error_of(children.create("f1"))
        assert error.reason == f"{children.kind.name.upper()}_ALREADY_EXISTS"
        await children.delete("f1")
        await children.create("more")


class TestPages:
    async def test_page_sizes_have_a_default_and_a_maximum(
        self, children: Children, query: Query
    ) -> None:
        assert await children.page() == ([], "")
        children.fill(query, 600)
        page, token = await children.page(page_size=1000)
        rest, end = await children.page(page_size=1000, page_token=token)
        assert (len(page), len(rest), end) == (500, 100, "")
        assert len((await children.page())[0]) == 50
        assert len(set(await children.ids())) == 600

    async def test_page_tokens_belong_to_their_listing(
        self, wire: Wire, children: Children
    ) -> None:
        await wire.create("two")
        for child_id in "abc":
            await children.create(child_id)
        _, token = await children.page(page_size=1)
        assert await children.ids(page_token=token) == ["b", "c"]
        for fields in ({"session": "two"}, *children.kind.other_listings):
            await check_page_token(children.page(page_token=token, **fields))

    async def test_forged_page_tokens_are_refused(self, children: Children) -> None:
        fingerprint = pagination.fingerprint(
            children.table, session_key(DEFAULT_PROJECT_ID, "one"), *children.kind.listing
        )
        for position in children.kind.forged:
            token = pagination.encode_token(fingerprint, *position)
            await check_page_token(children.page(page_token=token))

    @pytest.mark.parametrize(
        "request_class",
        [
            task_service_pb2.ListTasksRequest,
            bookmark_service_pb2.ListBookmarksRequest,
            conversation_service_pb2.ListTurnsRequest,
            processing_service_pb2.ListFailedMessagesRequest,
            session_service_pb2.ListCopiesRequest,
            session_service_pb2.ListSessionsRequest,
            admin.ListProjectsRequest,
        ],
        ids=lambda request_class: request_class.__name__,
    )
    async def test_malformed_paging_names_the_field(self, wire: Wire, request_class: Any) -> None:
        await wire.create("one")
        fields = request_class.DESCRIPTOR.fields_by_name
        values = {"session_id": "one", "queue": "q"}
        request = {name: value for name, value in values.items() if name in fields}
        method = wire.method(request_class.__name__.removesuffix("Request"))
        error = await error_of(method(request_class(page_size=-1, **request)))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert list(error.fields) == ["page_size"]
        for token in ("x", "rubbish", "WzEsMl0"):
            await check_page_token(method(request_class(page_token=token, **request)))


class TestIdempotency:
    async def test_a_retried_creation_returns_the_current_state(self, children: Children) -> None:
        first = await children.create("a", request_id="r")
        assert await children.create("a", request_id="r") == first
        changed = await children.update("a")
        assert await children.create("a", request_id="r") == changed != first
        assert await children.listed() == [changed]

    async def test_a_retried_update_changes_nothing(self, children: Children) -> None:
        await children.create("a")
        first = await children.update("a", request_id="r")
        assert await children.update("a", request_id="r") == first
        later = await children.update("a")
        assert await children.update("a", request_id="r") == later

    async def test_a_retried_deletion_spares_the_recreated(self, children: Children) -> None:
        async def delete() -> None:
            await children.delete("a", request_id="r")
            await children.delete("b", request_id="m", allow_missing=True)

        await children.create("a")
        await delete()
        await delete()
        await children.create("a")
        await children.create("b")
        await delete()
        assert await children.ids() == ["a", "b"]

    async def test_concurrent_retries_take_effect_once(self, children: Children) -> None:
        created = await asyncio.gather(*(children.create("a", request_id="c") for _ in range(10)))
        assert all(child == created[0] for child in created)
        assert await children.listed() == created[:1]
        updated = await asyncio.gather(*(children.update("a", request_id="u") for _ in range(10)))
        assert all(child == updated[0] for child in updated)
        assert await children.get("a") == updated[0]
        await children.create("b")
        await asyncio.gather(*(children.delete("a", request_id="d") for _ in range(10)))
        assert await children.ids() == ["b"]

    async def test_a_request_id_with_other_content_is_refused(
        self, wire: Wire, children: Children
    ) -> None:
        await children.create("a", request_id="r")
        await wire.store("one", "x", request_id="s")
        for call in (
            *(children.create("a", request_id="r", **f) for f in children.kind.other_creations),
            children.create("b", request_id="r"),
            children.update("a", request_id="r"),
            children.delete("a", request_id="r"),
            wire.store("one", "x", request_id="r"),
        ):
            error = await error_of(call)
            assert error.code == grpc.StatusCode.INVALID_ARGUMENT
            assert error.reason == "REQUEST_ID_REUSED"
            assert error.metadata["request_id"] == "r"
            assert list(error.fields) == ["request_id"]
        assert (await error_of(children.create("b", request_id="s"))).reason == "REQUEST_ID_REUSED"

    async def test_a_failed_request_does_not_use_its_request_id(self, children: Children) -> None:
        error = await error_of(children.create("a", request_id="r", **children.kind.refused))
        assert error.reason == "MESSAGE_NOT_FOUND"
        await check_missing(children, children.delete("a", request_id="r"))
        await children.create("a", request_id="r")

    async def test_a_retry_of_what_was_deleted_is_not_found(self, children: Children) -> None:
        await children.create("a", request_id="r")
        await children.delete("a")
        await check_missing(children, children.create("a", request_id="r"))

    async def test_a_retry_is_answered_after_destroy(self, wire: Wire, children: Children) -> None:
        first = await children.create("a", request_id="r")
        await wire.destroy("one")
        assert await children.create("a", request_id="r") == first

    async def test_a_recreated_session_forgets_request_ids(
        self, wire: Wire, children: Children
    ) -> None:
        first = await children.create("a", request_id="r")
        await wire.delete("one")
        await wire.create("one")
        assert await children.listed() == []
        assert await children.create("a", request_id="r") != first


class TestSessions:
    async def test_changes_do_not_change_the_session(self, wire: Wire, children: Children) -> None:
        before = await wire.get("one")
        await children.create("a")
        await children.update("a")
        await children.delete("a")
        after = await wire.get("one")
        assert (after.etag, after.last_seq) == (before.etag, before.last_seq)

    @pytest.mark.parametrize("verb", ["create", "update", "delete"])
    async def test_changes_extend_the_idle_ttl(
        self, wire: Wire, children: Children, query: Query, verb: str
    ) -> None:
        await wire.create("two", idle_ttl_s=60)
        await children.create("a", session="two")
        pass_time(query, "two", 50)
        await getattr(children, verb)("b" if verb == "create" else "a", session="two")
        pass_time(query, "two", 50)
        await wire.get("two")
        pass_time(query, "two", 50)
        for call in (
            children.get("a", session="two"),
            children.listed(session="two"),
            children.create("c", session="two"),
            children.delete("a", session="two"),
        ):
            assert (await error_of(call)).reason == "SESSION_NOT_FOUND"

    async def test_failed_changes_do_not_extend_the_idle_ttl(
        self, wire: Wire, children: Children
    ) -> None:
        before = await wire.get("one")
        await check_missing(children, children.delete("a"))
        assert await wire.get("one") == before

    async def test_no_row_is_added_to_a_session_that_is_being_deleted(
        self, wire: Wire, children: Children, query: Query
    ) -> None:
        """The purger deletes the rows of dead logs, so no row may be added to a dead log later."""
        kind = children.kind

        async def write() -> None:
            for _ in range(4):
                calls = [
                    children.create("a"),
                    *(children.create("a", **fields) for fields in kind.other_creations),
                    children.update("a"),
                    children.delete("a"),
                ]
                if kind.name == "Task":
                    calls.append(children.call("Reorder", task_ids=["a"]))
                for call in calls:
                    try:
                        await call
                    except grpc.aio.AioRpcError as e:
                        if e.code() not in (
                            grpc.StatusCode.NOT_FOUND,
                            grpc.StatusCode.ALREADY_EXISTS,
                        ):
                            raise

        async def churn() -> None:
            for _ in range(10):
                await wire.delete("one", allow_missing=True)
                await wire.create("one", get_or_create=True)

        await asyncio.gather(churn(), *(write() for _ in range(6)))
        await wire.delete("one")
        assert query(
            f"SELECT count(*) FROM {children.table} "
            "WHERE (key, log) NOT IN (SELECT key, log FROM dead_logs)"
        ) == [(0,)]

    async def test_a_change_locks_the_session_against_deletion(
        self, settings: Settings, children: Children, database_url: str, query: Query
    ) -> None:
        """A deletion at another server waits for the change, so that no row can follow it."""
        settings = settings.model_copy(update={"lock_timeout_s": 0})
        async with (
            serving(settings, database_url) as first,
            serving(settings, database_url) as second,
            grpc.aio.insecure_channel(f"127.0.0.1:{first.port}") as one,
            grpc.aio.insecure_channel(f"127.0.0.1:{second.port}") as two,
        ):
            children = Children(Wire(one), children.kind)
            await self.delete_during_a_change(children, Wire(two), database_url, query)

    async def delete_during_a_change(
        self, children: Children, other: Wire, database_url: str, query: Query
    ) -> None:
        with psycopg.connect(database_url) as blocker:
            # The change locks the session's row, and then waits for its request_id, which another
            # transaction is inserting.
            [[key, log]] = query("SELECT key, log FROM sessions")
            blocker.execute(
                "INSERT INTO requests (key, log, request_id, content_hash, created_at) "
                "VALUES (%s, %s, 'r', '', now())",
                [key, log],
            )
            change = asyncio.ensure_future(children.create("a", request_id="r"))
            await until_waiting(database_url, 1)
            deletion = asyncio.ensure_future(other.delete("one"))
            await until_waiting(database_url, 2)
            blocker.rollback()
        assert getattr(await change, children.kind.id_field) == "a"
        await deletion
        assert query(
            f"SELECT count(*) FROM {children.table} "
            "WHERE (key, log) IN (SELECT key, log FROM dead_logs)"
        ) == [(1,)]


class TestProjects:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True})

    @pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.lower())
    async def test_projects_have_their_own(self, wire: Wire, server: Running, kind: Kind) -> None:
        children = Children(wire, kind)
        keys = Keys(KeyStore(server.database))
        headers = {}
        for name in ("blue", "red"):
            secret = (await keys.create_key(name, create_project=True)).secret
            headers[name] = (("authorization", f"Bearer {secret}"),)
            await wire.sessions.CreateSession(
                session_service_pb2.CreateSessionRequest(session=Session(session_id="one")),
                metadata=headers[name],
            )
        blue = await children.create("a", request_id="r", metadata=headers["blue"])
        await check_missing(children, children.get("a", metadata=headers["red"]))
        assert await children.listed(metadata=headers["red"]) == []
        red = await children.create("a", request_id="r", metadata=headers["red"])
        assert await children.listed(metadata=headers["red"]) == [red] != [blue]
