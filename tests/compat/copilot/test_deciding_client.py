"""`CopilotClient`, which is asynchronous where an event loop runs, and synchronous elsewhere."""

import asyncio

import pytest

from sessiond.compat import copilot
from sessiond.compat.copilot import (
    CopilotClient,
    MessageOptions,
)


class TestEither:
    async def test_async_where_a_loop_runs(self, target: str) -> None:
        async with CopilotClient(target=target) as client:
            session = await client.create_session({"session_id": "chat"})
            assert isinstance(session, copilot.AsyncCopilotSession)
            async with session:
                await session.send_and_wait(MessageOptions(prompt="Hello"))
            assert (await client.get_session_metadata("chat")).status == "destroyed"
            assert [row.session_id for row in await client.list_sessions()] == ["chat"]
            assert await client.get_last_session_id() == "chat"
            assert (await client.ping()).message == "pong:"
            assert isinstance(await client.resume_session("chat"), copilot.AsyncCopilotSession)
            client.on_lifecycle(print)()
            with pytest.raises(RuntimeError, match="inside an event loop"):
                await asyncio.to_thread(client.list_sessions)
            await client.delete_session("chat")

    async def test_sync_elsewhere(self, target: str) -> None:
        def use() -> CopilotClient:
            with CopilotClient(target=target) as client:
                with client.create_session(session_id="chat") as session:
                    assert session.send(prompt="Hello").startswith("chat/")
                assert client.get_session_metadata("chat").status == "destroyed"
                client.delete_session("chat")
                assert client.list_sessions() == []
                client.force_stop()
                return client

        client = await asyncio.to_thread(use)
        for wrong in (client.list_sessions, client.start, client.__enter__):
            with pytest.raises(RuntimeError, match="event loop"):
                wrong()

    async def test_nothing_is_decided_before_the_first_call(self, target: str) -> None:
        client = await asyncio.to_thread(CopilotClient, target=target)
        await client.start()
        await client.stop()
        with pytest.raises(TypeError, match="knows no 'cli_url'"):
            CopilotClient({"cli_url": "x"})

    async def test_the_environment_names_the_server(
        self, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SESSIOND_TARGET", target)
        async with CopilotClient() as client:
            assert await client.list_sessions() == []
