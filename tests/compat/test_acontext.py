"""`sessiond.compat.acontext`: the calls that programs for Acontext's SDK make."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessiond import (
    AsyncClient,
    DeadlineExceeded,
    NewMessage,
    ServerUnavailable,
    SessionNotFound,
)
from sessiond.compat import acontext
from sessiond.compat.acontext import (
    AcontextClient,
    AcontextError,
    APIError,
    AsyncAcontextClient,
    TransportError,
)
from sessiond.compat.acontext import _types as _acontext
from sessiond.v1.message_pb2 import Part
from sessiond_server.server import Running

USER = {"role": "user", "content": "Hello"}


@pytest.fixture
async def client(server: Running) -> AsyncIterator[AsyncAcontextClient]:
    async with AsyncAcontextClient(
        api_key="...", base_url=f"http://127.0.0.1:{server.port}/api/v1"
    ) as opened:
        yield opened


@pytest.fixture
async def ours(server: Running) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"127.0.0.1:{server.port}") as opened:
        yield opened


async def test_sessions_and_configs(client: AsyncAcontextClient) -> None:
    made = await client.sessions.create(
        user="ada", configs={"mode": "a", "deep": {"x": 1}}, disable_task_tracking=False
    )
    assert (made.user_id, made.configs, made.created_at) == (
        "ada",
        {"mode": "a", "deep": {"x": 1}},
        made.updated_at,
    )
    chosen = await client.sessions.create(use_uuid="chosen")
    assert await client.sessions.create(use_uuid="chosen", user="other") == chosen
    assert chosen.user_id is None
    assert await client.sessions.patch_configs(
        made.id, configs={"mode": None, "deep": {"y": 2}}
    ) == {"deep": {"x": 1, "y": 2}}
    assert (await client.sessions.get_configs(made.id)).configs == {"deep": {"x": 1, "y": 2}}
    await client.sessions.update_configs(made.id, configs={"mode": "b"})
    assert (await client.sessions.get_configs(made.id)).configs == {"mode": "b"}

    first = await client.sessions.list(limit=1)
    assert ([s.id for s in first.items], first.has_more) == ([made.id], True)
    second = await client.sessions.list(limit=1, cursor=first.next_cursor)
    assert ([s.id for s in second.items], second.has_more, second.next_cursor) == (
        ["chosen"],
        False,
        None,
    )
    assert [s.id for s in (await client.sessions.list(time_desc=True)).items] == ["chosen", made.id]
    assert [
        s.id
        for s in (await client.sessions.list(user="ada", filter_by_configs={"mode": "b"})).items
    ] == [made.id]
    await client.sessions.delete("chosen")
    assert [s.id for s in (await client.sessions.list()).items] == [made.id]


async def test_messages_in_pages(client: AsyncAcontextClient) -> None:
    session = await client.sessions.create()
    stored = [
        await client.sessions.store_message(
            session.id, blob=USER | {"content": str(i)}, meta={"i": i}
        )
        for i in range(5)
    ]
    assert [m.id for m in stored] == [f"{session.id}/{i}" for i in range(1, 6)]
    assert (stored[0].parent_id, stored[1].parent_id, stored[1].role, stored[1].meta) == (
        None,
        stored[0].id,
        "user",
        {"i": 1},
    )
    page = await client.sessions.get_messages(session.id)
    assert [item["content"] for item in page.items] == ["0", "1", "2", "3", "4"]
    assert page.ids == [m.id for m in stored]
    assert page.metas == [{"i": i} for i in range(5)]
    assert (page.has_more, page.next_cursor) == (False, None)
    assert (
        page.this_time_tokens
        == (await client.sessions.get_token_counts(session.id)).total_tokens
        > 0
    )

    for time_desc, pages in ((False, ["01", "23", "4"]), (True, ["34", "12", "0"])):
        cursor: str | None = None
        for i, contents in enumerate(pages):
            page = await client.sessions.get_messages(
                session.id, limit=2, cursor=cursor, time_desc=time_desc
            )
            assert "".join(item["content"] for item in page.items) == contents
            assert page.has_more == (i < 2)
            cursor = page.next_cursor
        assert cursor is None
    assert len((await client.sessions.get_messages(session.id, limit=5, time_desc=True)).items) == 5
    with pytest.raises(APIError, match="400: INVALID_FIELD: cursor"):
        await client.sessions.get_messages(session.id, cursor="bm9uZQ==")


class Sdk:
    """A message as an object of a provider's SDK."""

    def model_dump(self) -> dict[str, object]:
        return {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}


async def test_formats_are_kept_and_not_converted(
    client: AsyncAcontextClient, ours: AsyncClient
) -> None:
    session = await client.sessions.create()
    message = await client.sessions.store_message(session.id, blob=Sdk(), format="anthropic")
    assert message.role == "assistant"
    assert (await client.sessions.get_messages(session.id, format="anthropic")).items == [
        Sdk().model_dump()
    ]
    with pytest.raises(APIError, match="message 1 is stored as anthropic"):
        await client.sessions.get_messages(session.id)
    await ours.sessions.store_message(session.id, NewMessage(parts=[Part(text="x")], role="user"))
    with pytest.raises(APIError, match="typed parts"):
        await client.sessions.get_messages(session.id, time_desc=True, limit=1)
    with pytest.raises(APIError, match="400: INVALID_FIELD"):
        await client.sessions.store_message(session.id, blob=USER, format="acontext")


async def test_tasks(client: AsyncAcontextClient, ours: AsyncClient) -> None:
    session = await client.sessions.create()
    for i in range(3):
        await ours.tasks.create(
            session.id,
            task_id=f"t{i}",
            data={"task_description": f"do {i}", "progresses": ["begun"]},
        )
    await ours.tasks.create(session.id, task_id="t3", data={"mine": 1})
    page = await client.sessions.get_tasks(session.id, limit=3)
    assert [(t.id, t.order, t.data.task_description, t.status) for t in page.items][1] == (
        "t1",
        2,
        "do 1",
        "pending",
    )
    assert (page.items[0].data.progresses, page.items[0].data.user_preferences) == (["begun"], None)
    last = await client.sessions.get_tasks(session.id, limit=3, cursor=page.next_cursor)
    assert ([t.data for t in last.items], last.has_more) == ([{"mine": 1}], False)
    assert last.items[0].data.task_description == ""
    assert [t.id for t in (await client.sessions.get_tasks(session.id, time_desc=True)).items] == [
        "t3",
        "t2",
        "t1",
        "t0",
    ]


async def test_copies_and_errors(client: AsyncAcontextClient) -> None:
    session = await client.sessions.create()
    await client.sessions.store_message(session.id, blob=USER)
    result = await client.sessions.copy(session_id=session.id)
    assert result.old_session_id == session.id
    assert (await client.sessions.get_messages(result.new_session_id)).items == [USER]
    with pytest.raises(AcontextError) as caught:
        await client.sessions.copy("nobody")
    error = caught.value
    assert isinstance(error, APIError)
    assert str(error).startswith("404: SESSION_NOT_FOUND: ")
    assert (error.status_code, error.error, error.payload["session_id"]) == (
        404,
        "SESSION_NOT_FOUND",
        "nobody",
    )
    assert isinstance(error.__cause__, SessionNotFound)
    for call in (
        client.sessions.delete,
        client.sessions.get_configs,
        client.sessions.get_messages,
        client.sessions.get_tasks,
    ):
        with pytest.raises(AcontextError, match="SESSION_NOT_FOUND"):
            await call("nobody")
    async with AsyncAcontextClient(base_url="127.0.0.1:1", timeout=0.5) as nowhere:
        with pytest.raises(TransportError) as caught:
            await nowhere.sessions.create()
        # On a slow machine, the time may be over during an attempt.
        assert isinstance(caught.value.__cause__, ServerUnavailable | DeadlineExceeded)


async def test_the_sync_client_has_the_same_calls(server: Running) -> None:
    def work() -> None:
        client = AcontextClient(api_key=None, base_url=f"127.0.0.1:{server.port}")
        session = client.sessions.create()
        client.sessions.store_message(session.id, blob=USER)
        assert client.sessions.get_messages(session.id, limit=1).items == [USER]
        assert client.sessions.get_tasks(session.id).items == []
        assert (
            client.sessions.get_token_counts(
                client.sessions.copy(session.id).new_session_id
            ).total_tokens
            > 0
        )
        with pytest.raises(AcontextError, match="SESSION_NOT_FOUND"):
            client.sessions.copy("nobody")
        client.close()
        with pytest.raises(TransportError):
            client.sessions.create()

    await asyncio.to_thread(work)


def test_names_are_where_programs_look_for_them() -> None:
    from sessiond.compat.acontext.errors import APIError as FromErrors
    from sessiond.compat.acontext.exceptions import AcontextError as FromExceptions

    assert FromErrors is APIError
    assert FromExceptions is AcontextError
    assert acontext.AcontextAsyncClient is AsyncAcontextClient
    assert all(hasattr(acontext, name) for name in acontext.__all__)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (None, (None, False)),
        ("http://localhost:8029/api/v1", ("localhost:8029", False)),
        ("https://sessions.example.com", ("sessions.example.com", True)),
        ("localhost:50051", ("localhost:50051", False)),
        ("unix:/run/sessiond", ("unix:/run/sessiond", False)),
    ],
)
def test_base_urls(url: str | None, target: tuple[str | None, bool]) -> None:
    assert _acontext.target_of(url) == target


def test_only_keys_of_sessiond_are_sent() -> None:
    assert _acontext.key_of("sk-sessiond-0123-secret") == "sk-sessiond-0123-secret"
    assert (
        _acontext.key_of("sk-ac-theirs")
        is _acontext.key_of("...")
        is _acontext.key_of(None)
        is None
    )
