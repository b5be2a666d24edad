"""API keys: the calls that they allow, and their management by admins."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1 import session_service_pb2 as ss
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, end_of, error_of
from .calls import ADMIN_CALLS, BY_ID, CALLS, call


@pytest.fixture(scope="module")
def shared_settings(shared_settings: Settings) -> Settings:
    return shared_settings.model_copy(update={"require_keys": True})


class TestKeys:
    """A server that requires keys, and two projects."""

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
    async def test_calls_without_a_valid_key_are_refused(
        self, shared: Wire, name: str, headers: Any, reason: str
    ) -> None:
        request = CALLS[name]("one") if name in CALLS else ADMIN_CALLS[name]
        error = await error_of(call(shared, name, request, metadata=headers))
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)

    async def test_a_call_with_two_keys_is_refused(
        self, wire: Wire, secrets: dict[str, str]
    ) -> None:
        blue, red = (("authorization", f"Bearer {secrets[name]}") for name in ("blue", "red"))
        request = CALLS["ListSessions"]("one")
        await call(wire, "ListSessions", request, metadata=(blue,))
        for both in ((blue, red), (red, blue), (blue, blue)):
            error = await error_of(call(wire, "ListSessions", request, metadata=both))
            assert error.reason == "API_KEY_INVALID"

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
    async def test_admin_calls_require_an_admin_key(
        self, wire: Wire, secrets: dict[str, str], name: str
    ) -> None:
        error = await error_of(call(wire, name, ADMIN_CALLS[name], **self.header(secrets["blue"])))
        assert (error.code, error.reason) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "ADMIN_KEY_REQUIRED",
        )
        allowed = await end_of(call(wire, name, ADMIN_CALLS[name], **self.header(secrets["admin"])))
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
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await end_of(
                    stub.Check(health_pb2.HealthCheckRequest(service="sessiond.v1.SessionService"))
                )
                if answer is None:
                    break
                await asyncio.sleep(0.01)  # the first health check is under way
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
    async def test_malformed_project_names_are_refused(self, wire: Wire, name: str) -> None:
        error = await error_of(
            wire.admin.CreateProject(admin.CreateProjectRequest(project=admin.Project(name=name)))
        )
        assert list(error.fields) == ["project.name"]

    async def test_refusals_have_their_reasons(self, wire: Wire) -> None:
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
