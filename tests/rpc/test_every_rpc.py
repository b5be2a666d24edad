"""What holds for every RPC: other projects, malformed requests, ids, deadlines, keys. Each RPC of the protos must stand in CALLS."""

import asyncio
import logging
from collections.abc import Callable
from itertools import takewhile
from typing import Any
from uuid import UUID

import grpc
import psycopg
import pytest

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1 import asset_service_pb2 as assets
from sessiond.v1 import bookmark_service_pb2 as bookmarks
from sessiond.v1 import conversation_service_pb2 as conversations
from sessiond.v1 import processing_service_pb2 as processing
from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1 import task_service_pb2 as tasks
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.error_reason_pb2 import ErrorReason
from sessiond.v1.session_pb2 import Session
from sessiond.v1.task_pb2 import TASK_STATUS_RUNNING, Task
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.queues.service import encode_lease_id
from sessiond_server.queues.store.rows import LeaseRef
from sessiond_server.rpc.errors import CODES
from sessiond_server.rpc.services import SERVICES
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from ..support.wire import Wire, WireError, error_of, openai


def title(session_id: str) -> ss.UpdateSessionRequest:
    return ss.UpdateSessionRequest(session=Session(session_id=session_id, title="t"))


LEASE_ID = encode_lease_id(LeaseRef(UUID(int=1), UUID(int=2), "q", UUID(int=3)))

# A good request for each RPC, for the session of a given id. What else a request names (a task, an asset, ...) is not there.
CALLS: dict[str, Callable[[str], Any]] = {
    "CreateSession": lambda s: ss.CreateSessionRequest(session=Session(session_id=s)),
    "GetSession": lambda s: ss.GetSessionRequest(session_id=s),
    "ListSessions": lambda s: ss.ListSessionsRequest(),
    "UpdateSession": title,
    "ResumeSession": lambda s: ss.ResumeSessionRequest(session_id=s),
    "DestroySession": lambda s: ss.DestroySessionRequest(session_id=s),
    "DeleteSession": lambda s: ss.DeleteSessionRequest(session_id=s),
    "DeleteSessions": lambda s: ss.DeleteSessionsRequest(filter={"session_id_prefix": s}),
    "CopySession": lambda s: ss.CopySessionRequest(session_id=s),
    "ListCopies": lambda s: ss.ListCopiesRequest(session_id=s),
    "GetTokenCounts": lambda s: ss.GetTokenCountsRequest(session_id=s),
    "ImportSession": lambda s: ss.ImportSessionRequest(session=Session(session_id=s)),
    "StoreMessages": lambda s: ss.StoreMessagesRequest(session_id=s, messages=[openai("x")]),
    "BatchStoreMessages": lambda s: ss.BatchStoreMessagesRequest(
        requests=[ss.StoreMessagesRequest(session_id=s, messages=[openai("x")])]
    ),
    "ImportMessages": lambda s: ss.ImportMessagesRequest(session_id=s, messages=[openai("x")]),
    "GetMessages": lambda s: ss.GetMessagesRequest(session_id=s),
    "GetMessage": lambda s: ss.GetMessageRequest(session_id=s, seq=1),
    "CreateTask": lambda s: tasks.CreateTaskRequest(session_id=s),
    "GetTask": lambda s: tasks.GetTaskRequest(session_id=s, task_id="t"),
    "ListTasks": lambda s: tasks.ListTasksRequest(session_id=s),
    "UpdateTask": lambda s: tasks.UpdateTaskRequest(
        session_id=s, task=Task(task_id="t", status=TASK_STATUS_RUNNING)
    ),
    "ReorderTasks": lambda s: tasks.ReorderTasksRequest(session_id=s, task_ids=["t"]),
    "DeleteTask": lambda s: tasks.DeleteTaskRequest(session_id=s, task_id="t"),
    "CreateBookmark": lambda s: bookmarks.CreateBookmarkRequest(
        session_id=s, bookmark=Bookmark(name="b")
    ),
    "GetBookmark": lambda s: bookmarks.GetBookmarkRequest(session_id=s, name="b"),
    "ListBookmarks": lambda s: bookmarks.ListBookmarksRequest(session_id=s),
    "UpdateBookmark": lambda s: bookmarks.UpdateBookmarkRequest(
        session_id=s, bookmark=Bookmark(name="b", description="d")
    ),
    "DeleteBookmark": lambda s: bookmarks.DeleteBookmarkRequest(session_id=s, name="b"),
    "LeaseMessages": lambda s: processing.LeaseMessagesRequest(queue="q"),
    "ExtendLease": lambda s: processing.ExtendLeaseRequest(lease_id=LEASE_ID),
    "AcknowledgeMessages": lambda s: processing.AcknowledgeMessagesRequest(lease_id=LEASE_ID),
    "RequeueMessages": lambda s: processing.RequeueMessagesRequest(
        queue="q", session_id=s, failed=True
    ),
    "GetProcessingCounts": lambda s: processing.GetProcessingCountsRequest(queue="q", session_id=s),
    "ListFailedMessages": lambda s: processing.ListFailedMessagesRequest(queue="q", session_id=s),
    "ListQueues": lambda s: processing.ListQueuesRequest(),
    "DeleteQueue": lambda s: processing.DeleteQueueRequest(queue="q"),
    "UploadAsset": lambda s: assets.UploadAssetRequest(data=b"x"),
    "DownloadAsset": lambda s: assets.DownloadAssetRequest(asset_id="0" * 64),
    "GetAsset": lambda s: assets.GetAssetRequest(asset_id="0" * 64),
    "Send": lambda s: conversations.SendRequest(session_id=s, prompt="x"),
    "Abort": lambda s: conversations.AbortRequest(session_id=s),
    "GetTurn": lambda s: conversations.GetTurnRequest(session_id=s, turn_id=str(UUID(int=7))),
    "ListTurns": lambda s: conversations.ListTurnsRequest(session_id=s),
    "Watch": lambda s: conversations.WatchRequest(session_id=s),
}
ADMIN_CALLS: dict[str, Any] = {
    "CreateProject": admin.CreateProjectRequest(project=admin.Project(name="p")),
    "ListProjects": admin.ListProjectsRequest(),
    "CreateApiKey": admin.CreateApiKeyRequest(project="default"),
    "ListApiKeys": admin.ListApiKeysRequest(project="default"),
    "RevokeApiKey": admin.RevokeApiKeyRequest(key_id="k"),
}
# Those that name a session which must exist.
BY_ID = [
    name
    for name in CALLS
    if name == "UpdateSession" or "session_id" in CALLS[name]("x").DESCRIPTOR.fields_by_name
]
UPLOADS = ("ImportMessages", "ImportSession", "UploadAsset")
DOWNLOADS = ("BatchStoreMessages", "GetMessages", "DownloadAsset", "Send", "Watch")


def call(wire: Wire, name: str, request: Any, **options: Any) -> Any:
    return wire.method(name)(iter([request]) if name in UPLOADS else request, **options)


async def outcome(made: Any) -> WireError | None:
    """The error that a call ends with, or None."""
    try:
        return await error_of(made)
    except AssertionError:
        return None


def test_the_table_has_every_rpc() -> None:
    described = {service.name: {method.name for method in service.methods} for service in SERVICES}
    assert described.pop("AdminService") == set(ADMIN_CALLS)
    assert set().union(*described.values()) == set(CALLS)


def test_every_reason_has_one_code() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert set(CODES) == reasons


def test_the_protos_name_the_codes() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "protos/sessiond/v1/error_reason.proto").read_text()
    for reason, code in CODES.items():
        above = text[: text.index(f"  ERROR_REASON_{reason} =")].splitlines()
        comment = list(takewhile(lambda line: line.startswith("  //"), reversed(above)))
        assert comment[-1].startswith(f"  // {code.name}: "), reason


@pytest.mark.parametrize("name", BY_ID)
async def test_an_unknown_session_is_not_found(wire: Wire, name: str) -> None:
    error = await error_of(call(wire, name, CALLS[name]("nobody")))
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert error.metadata["session_id"] == "nobody"
    assert error.metadata["call_id"]


@pytest.mark.parametrize("session_id", ["", "x" * 257, "a\0b", "tab\t", " lead"])
@pytest.mark.parametrize("name", BY_ID)
async def test_a_malformed_id_names_the_field(wire: Wire, name: str, session_id: str) -> None:
    if (name, session_id) in (("GetProcessingCounts", ""), ("Watch", "")):
        return  # all sessions
    error = await error_of(call(wire, name, CALLS[name](session_id)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(error.fields) == ["session.session_id" if name == "UpdateSession" else "session_id"]


@pytest.mark.parametrize(
    "name", [name for name in CALLS if "request_id" in CALLS[name]("x").DESCRIPTOR.fields_by_name]
)
@pytest.mark.parametrize("request_id", ["x" * 129, "a\0"])
async def test_a_malformed_request_id_names_the_field(
    wire: Wire, name: str, request_id: str
) -> None:
    await wire.create("one", get_or_create=True)
    request = CALLS[name]("one")
    request.request_id = request_id
    assert list((await error_of(call(wire, name, request))).fields) == ["request_id"]


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f"])
@pytest.mark.parametrize("name", [*CALLS, *ADMIN_CALLS])
async def test_bytes_that_are_no_request_are_a_typed_error(
    channel: grpc.aio.Channel, name: str, garbage: bytes
) -> None:
    service = next(service.full_name for service in SERVICES if name in service.methods_by_name)
    path = f"/{service}/{name}"
    if name in UPLOADS:
        made: Any = channel.stream_unary(path)(iter([garbage]))
    elif name in DOWNLOADS:
        made = channel.unary_stream(path)(garbage)
    else:
        made = channel.unary_unary(path)(garbage)
    error = await error_of(made)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


@pytest.mark.parametrize("name", [*CALLS, *ADMIN_CALLS])
async def test_a_deadline_that_passed_is_told(wire: Wire, name: str) -> None:
    request = CALLS[name]("one") if name in CALLS else ADMIN_CALLS[name]
    made = call(wire, name, request, timeout=1e-6)
    code = await made.code()
    # A deadline that ends the sending of a client's stream is a cancellation, or an error of its own, to grpc.aio, now and then.
    if name in UPLOADS and code is grpc.StatusCode.INTERNAL:
        assert "from Core" in await made.details()
    else:
        assert code in {grpc.StatusCode.DEADLINE_EXCEEDED} | (
            {grpc.StatusCode.CANCELLED} if name in UPLOADS else set()
        )
    assert await wire.list() == []


async def test_a_deadline_ends_the_statement(wire: Wire, database_url: str) -> None:
    await wire.create("one")
    with psycopg.connect(database_url) as blocker:
        blocker.execute("SELECT * FROM sessions FOR UPDATE")
        error = await error_of(
            call(wire, "StoreMessages", CALLS["StoreMessages"]("one"), timeout=0.3)
        )
        assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED
        # The statement is cancelled in the database, not only forgotten by us.
        async with asyncio.timeout(10):
            while _waiting(database_url):
                await asyncio.sleep(0.02)
    assert (await wire.get("one")).last_seq == 0


def _waiting(database_url: str) -> int:
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row
    return int(row[0])


class TestDefaultDeadline:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"default_deadline_s": 0.3})

    async def test_holds_for_clients_that_set_none(self, wire: Wire, database_url: str) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions FOR UPDATE")
            error = await error_of(wire.store("one", "x"))
        assert (error.code, error.reason) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "DEADLINE_EXCEEDED",
        )


class TestKeys:
    """A server that asks for keys, and two projects."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"require_keys": True, "key_cache_s": 0.0})

    @pytest.fixture
    async def secrets(self, server: Running) -> dict[str, str]:
        keys = Keys(KeyStore(server.database))
        made = {name: await keys.create_key(name, create_project=True) for name in ("blue", "red")}
        made["admin"] = await keys.create_key("default", is_admin=True)
        return {name: key.secret for name, key in made.items()}

    @staticmethod
    def header(secret: str) -> dict[str, Any]:
        return {"metadata": (("authorization", f"Bearer {secret}"),)}

    @pytest.mark.parametrize("name", [*CALLS, *ADMIN_CALLS])
    @pytest.mark.parametrize(
        ("headers", "reason"),
        [
            ((), "API_KEY_MISSING"),
            ((("authorization", "Bearer nonsense"),), "API_KEY_INVALID"),
            ((("authorization", "Basic eDp5"),), "API_KEY_INVALID"),
            ((("authorization", f"Bearer sk-sessiond-{'0' * 16}-{'A' * 43}"),), "API_KEY_INVALID"),
        ],
    )
    async def test_no_call_without_a_good_key(
        self, wire: Wire, name: str, headers: Any, reason: str
    ) -> None:
        request = CALLS[name]("one") if name in CALLS else ADMIN_CALLS[name]
        error = await error_of(call(wire, name, request, metadata=headers))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)

    @pytest.mark.parametrize("name", BY_ID)
    async def test_another_projects_session_is_not_found(
        self, wire: Wire, secrets: dict[str, str], name: str
    ) -> None:
        sessions = wire.sessions
        await sessions.CreateSession(CALLS["CreateSession"]("one"), **self.header(secrets["blue"]))
        await sessions.StoreMessages(CALLS["StoreMessages"]("one"), **self.header(secrets["blue"]))
        before = await sessions.GetSession(
            CALLS["GetSession"]("one"), **self.header(secrets["blue"])
        )
        error = await error_of(call(wire, name, CALLS[name]("one"), **self.header(secrets["red"])))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
        assert (
            await sessions.GetSession(CALLS["GetSession"]("one"), **self.header(secrets["blue"]))
            == before
        )

    async def test_projects_have_their_own_ids_and_listings(
        self, wire: Wire, secrets: dict[str, str]
    ) -> None:
        sessions = wire.sessions
        for name in ("blue", "red"):
            request = CALLS["CreateSession"]("one")
            request.session.title = name
            await sessions.CreateSession(request, **self.header(secrets[name]))
        for name in ("blue", "red"):
            page = await sessions.ListSessions(
                ss.ListSessionsRequest(), **self.header(secrets[name])
            )
            assert [session.title for session in page.sessions] == [name]
        page = await sessions.ListSessions(
            ss.ListSessionsRequest(), **self.header(secrets["admin"])
        )
        assert not page.sessions

    @pytest.mark.parametrize("name", ADMIN_CALLS)
    async def test_admin_calls_ask_for_an_admin_key(
        self, wire: Wire, secrets: dict[str, str], name: str
    ) -> None:
        error = await error_of(call(wire, name, ADMIN_CALLS[name], **self.header(secrets["blue"])))
        assert (error.code, error.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ADMIN_KEY_REQUIRED",
        )
        allowed = await outcome(
            call(wire, name, ADMIN_CALLS[name], **self.header(secrets["admin"]))
        )
        assert allowed is None or allowed.reason == "API_KEY_NOT_FOUND"

    async def test_a_key_lives_from_its_creation_to_its_revocation(
        self, wire: Wire, secrets: dict[str, str], query: Callable[..., list[tuple[object, ...]]]
    ) -> None:
        sessions, administration = wire.sessions, wire.admin
        as_admin = self.header(secrets["admin"])
        made = await administration.CreateApiKey(
            admin.CreateApiKeyRequest(project="blue", label="worker"), **as_admin
        )
        assert made.secret.startswith(f"sk-sessiond-{made.key.key_id}-")
        assert (
            made.secret.encode()
            not in query("SELECT secret_hash FROM api_keys WHERE key_id = %s", [made.key.key_id])[0]
        )
        await sessions.ListSessions(ss.ListSessionsRequest(), **self.header(made.secret))
        listed = await administration.ListApiKeys(
            admin.ListApiKeysRequest(project="blue"), **as_admin
        )
        assert listed.keys[0].label == "worker"
        revoked = await administration.RevokeApiKey(
            admin.RevokeApiKeyRequest(key_id=made.key.key_id), **as_admin
        )
        again = await administration.RevokeApiKey(
            admin.RevokeApiKeyRequest(key_id=made.key.key_id), **as_admin
        )
        assert again.revoke_time == revoked.revoke_time
        error = await error_of(
            sessions.ListSessions(ss.ListSessionsRequest(), **self.header(made.secret))
        )
        assert error.reason == "API_KEY_INVALID"

    async def test_health_and_reflection_need_no_key(self, channel: grpc.aio.Channel) -> None:
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        stub = health_pb2_grpc.HealthStub(channel)
        async with asyncio.timeout(20):
            while True:
                answer = await outcome(
                    stub.Check(health_pb2.HealthCheckRequest(service="sessiond.v1.SessionService"))
                )
                if answer is None:
                    break
                await asyncio.sleep(0.01)  # its first check of the database is under way
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [
            a
            async for a in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                iter([ask])
            )
        ]
        names = {service.name for service in answers[0].list_services_response.service}
        assert {
            "sessiond.v1.SessionService",
            "sessiond.v1.AdminService",
            "grpc.health.v1.Health",
        } <= names


class TestAdmin:
    async def test_projects_are_listed_by_pages(self, wire: Wire) -> None:
        for name in "cab":
            await wire.admin.CreateProject(
                admin.CreateProjectRequest(project=admin.Project(name=name))
            )
        names: list[str] = []
        request = admin.ListProjectsRequest(page_size=1)
        while True:
            page = await wire.admin.ListProjects(request)
            names += [project.name for project in page.projects]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert names == ["a", "b", "c", "default"]

    @pytest.mark.parametrize("name", ["", "A", "a b", "-a", "x" * 65, "é", "a\0"])
    async def test_odd_project_names_are_refused(self, wire: Wire, name: str) -> None:
        error = await error_of(
            wire.admin.CreateProject(admin.CreateProjectRequest(project=admin.Project(name=name)))
        )
        assert list(error.fields) == ["project.name"]

    async def test_errors(self, wire: Wire) -> None:
        error = await error_of(
            wire.admin.CreateProject(
                admin.CreateProjectRequest(project=admin.Project(name="default"))
            )
        )
        assert error.reason == "PROJECT_ALREADY_EXISTS"
        error = await error_of(wire.admin.CreateApiKey(admin.CreateApiKeyRequest(project="none")))
        assert error.reason == "PROJECT_NOT_FOUND"
        error = await error_of(wire.admin.RevokeApiKey(admin.RevokeApiKeyRequest(key_id="none")))
        assert error.reason == "API_KEY_NOT_FOUND"


async def test_refusals_are_not_logged_as_crashes(
    wire: Wire, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        for name in BY_ID:
            await error_of(call(wire, name, CALLS[name]("nobody")))
        await error_of(wire.store("nobody", "x" * 2_000_000))
    said = caplog.text + "".join(capsys.readouterr())
    assert "Traceback" not in said
    assert "fault of the server" not in said


async def test_a_fault_of_our_own_is_told_without_its_stack(
    wire: Wire, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("sessiond_server.sessions.store.sessions.SessionStore.get", broken)
    error = await error_of(wire.get("one"))
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in error.text
    assert error.metadata["call_id"] in error.text


async def test_the_callers_request_id_names_the_call(wire: Wire) -> None:
    error = await error_of(
        wire.sessions.GetSession(
            ss.GetSessionRequest(session_id="x"), metadata=(("x-request-id", "abc-1"),)
        )
    )
    assert error.metadata["call_id"] == "abc-1"


class TestOverload:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(
            update={
                "max_concurrent_rpcs": 3,
                "max_watchers": 5,
                "pool_size": 1,
                "pool_timeout_s": 0.2,
            }
        )

    async def test_watchers_take_no_room_from_other_calls(self, wire: Wire) -> None:
        await wire.create("one")
        watchers = [
            wire.conversations.Watch(conversations.WatchRequest(session_id="one")) for _ in range(5)
        ]
        for watcher in watchers:
            await watcher.read()
        for made in (CALLS["Watch"]("one"), CALLS["Send"]("one")):
            error = await error_of(
                call(
                    wire,
                    "Watch" if "heartbeat_interval" in made.DESCRIPTOR.fields_by_name else "Send",
                    made,
                )
            )
            assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        await wire.store("one", "x")
        watchers[0].cancel()
        async with asyncio.timeout(20):
            while await outcome(call(wire, "Send", CALLS["Send"]("one"))):
                await asyncio.sleep(0.01)
        assert len(await wire.read("one")) == 3

    async def test_more_than_it_can_do_is_refused_with_a_delay(
        self, wire: Wire, database_url: str
    ) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions FOR UPDATE")
            waiting = [asyncio.ensure_future(wire.store("one", "x")) for _ in range(3)]
            async with asyncio.timeout(20):
                while not _waiting(database_url):
                    await asyncio.sleep(0.01)
            error = await error_of(wire.get("one"))
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert error.retry_s
        await asyncio.gather(*waiting, return_exceptions=True)

    async def test_a_pool_that_is_used_up_is_told_apart_from_a_database_that_is_away(
        self, wire: Wire, database_url: str
    ) -> None:
        await wire.create("one")
        with psycopg.connect(database_url) as blocker:
            blocker.execute("SELECT * FROM sessions FOR UPDATE")
            waiting = asyncio.ensure_future(wire.store("one", "x"))
            async with asyncio.timeout(20):
                while not _waiting(database_url):
                    await asyncio.sleep(0.01)
            error = await error_of(wire.get("one"))
        assert (error.reason, error.retry_s) == ("OVERLOADED", 0.5)
        await waiting


async def test_a_database_that_is_away_is_unavailable(settings: Settings) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with (
        serving(settings.model_copy(update={"pool_timeout_s": 0.2}), nowhere) as running,
        grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        error = await error_of(Wire(channel).get("x"))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert error.retry_s == 1.0
