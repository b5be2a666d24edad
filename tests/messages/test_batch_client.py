"""Appends that the client sends in batches."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond import AsyncClient
from sessiond.errors import SessiondError
from sessiond.v1.message_pb2 import Message
from sessiond_server.messages.batch_append import BatchAppender
from sessiond_server.server import Running

from ..support.processes import ServerProcess
from ..support.waiting import until_async
from ..support.wire import Wire
from .helpers import Query


class TestCoalescedAppends:
    """Appends through the client, which combines concurrent ones."""

    @pytest.fixture
    def batches(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Return the number of requests of each batch."""
        counts: list[int] = []
        store = BatchAppender.store

        def counted(self: BatchAppender, requests: Any) -> Any:
            counts.append(len(requests))
            return store(self, requests)

        monkeypatch.setattr(BatchAppender, "store", counted)
        return counts

    @pytest.mark.parametrize("sessions", [32, 1])
    async def test_concurrent_writers_append_in_their_own_order(
        self, server: Running, wire: Wire, batches: list[int], sessions: int
    ) -> None:
        async with AsyncClient(f"127.0.0.1:{server.port}") as client:
            for i in range(sessions):
                await client.create_session(f"s{i}")

            async def write(writer: int) -> list[int]:
                own = []
                for i in range(20):
                    content = [{"role": "user", "content": f"{writer}:{i}"}] * (1 + i % 3)
                    stored = await client.sessions.store_messages(f"s{writer % sessions}", content)
                    own += range(stored.first_seq, stored.last_seq + 1)
                return own

            written = await asyncio.gather(*(write(writer) for writer in range(32)))
        assert sum(batches) > 320  # most of the 640 went in batches
        for i in range(sessions):
            messages = await wire.read(f"s{i}")
            own = [
                seq
                for writer, seqs_of in enumerate(written)
                if writer % sessions == i
                for seq in seqs_of
            ]
            assert sorted(own) == [m.seq for m in messages] == list(range(1, len(messages) + 1))
            said = [json.loads(m.json)["content"] for m in messages]
            for writer in range(i, 32, sessions):
                assert written[writer] == sorted(written[writer])
                numbers = [
                    int(text.split(":")[1]) for text in said if text.startswith(f"{writer}:")
                ]
                assert numbers == sorted(numbers)
                assert [said[seq - 1] for seq in written[writer]] == [
                    f"{writer}:{n}" for n in numbers
                ]

    async def test_acknowledged_messages_survive_a_crash_once(
        self, start_server: Callable[..., ServerProcess], database_url: str, query: Query
    ) -> None:
        server = start_server(SESSIOND_DATABASE_URL=database_url)
        acknowledged: list[tuple[str, int, str]] = []
        async with AsyncClient(server.target, timeout=5) as client:
            for i in range(16):
                await client.create_session(f"s{i}")

            async def write(writer: int) -> None:
                for i in range(100_000):
                    content = f"{writer}:{i}"
                    stored = await client.sessions.store_message(
                        f"s{writer}", {"role": "user", "content": content}
                    )
                    acknowledged.append((f"s{writer}", stored.last_seq, content))

            tasks = [asyncio.create_task(write(writer)) for writer in range(16)]
            await until_async(lambda: len(acknowledged) >= 300, "300 are acknowledged")
            server.kill()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, SessiondError) for end in ends)
        rows = query(
            "SELECT session_id, seq, body FROM messages JOIN sessions USING (key, log) ORDER BY "
            "1, 2"
        )
        stored = {
            (session_id, seq): Message.FromString(bytes(body)).json
            for session_id, seq, body in rows
        }
        assert len(stored) == len(rows)
        for session_id, seq, content in acknowledged:
            assert json.loads(stored[session_id, seq])["content"] == content
        contents = [(session_id, text) for (session_id, _), text in stored.items()]
        assert len(set(contents)) == len(contents)
        assert all(
            last == count
            for last, count in query(
                "SELECT last_seq, (SELECT count(*) FROM messages AS m WHERE m.key = s.key) FROM "
                "sessions AS s"
            )
        )
