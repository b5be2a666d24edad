"""Rewinds on two server processes, during all kinds of reads and watches of the session."""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import grpc
import pytest

from sessiond import AsyncClient, AsyncSession, errors
from sessiond.v1.conversation_service_pb2 import WatchRequest
from sessiond.v1.session_service_pb2 import GetMessagesRequest, GetMessagesResponse

from ..support.integrity import assert_url_whole
from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S
from ..support.wire import Wire, taken_apart

Start = Callable[..., ServerProcess]

CONTENT_CHARACTERS = 1_500


def said(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def texts_of(batch: GetMessagesResponse) -> list[str]:
    return [json.loads(message.json)["content"] for message in batch.messages]


@dataclass
class Author:
    """The only writer of a session. It records the session's content in each epoch.

    Attributes:
        session: a handle of the session for each server.
        histories: the texts of each epoch. Within an epoch, they only grow.
        copies: the texts of each copy.
        bookmarks: the seq of each bookmark.
        links: the seqs that the task is linked to.
    """

    session: list[AsyncSession]
    chance: random.Random
    histories: list[list[str]] = field(default_factory=lambda: [[]])
    copies: dict[str, list[str]] = field(default_factory=dict)
    bookmarks: dict[str, int] = field(default_factory=dict)
    links: list[int] = field(default_factory=list)
    number: int = 0

    @property
    def texts(self) -> list[str]:
        return self.histories[-1]

    def new(self, count: int) -> list[str]:
        self.number += count
        return [
            f"{self.number - i} ".ljust(CONTENT_CHARACTERS, "x") for i in reversed(range(count))
        ]

    async def step(self) -> None:
        """Do something, and then rewind."""
        session, chance = self.session[self.chance.randrange(2)], self.chance
        match chance.choice(["append", "append", "append", "turn", "copy", "bookmark", "link"]):
            case "append":
                new = self.new(chance.randint(1, 40))
                self.texts.extend(new)
                stored = await session.store_messages(said(*new))
                assert (stored.last_seq, stored.epoch) == (len(self.texts), self.epoch)
            case "turn":
                prompt = self.new(1)[0]
                answer = (
                    f"echo of {len(self.texts) + 1} message{'s' if self.texts else ''}: {prompt}"
                )
                self.texts.extend((prompt, answer))
                assert (await session.send_and_wait(prompt)).content == answer
            case "copy" if self.texts:
                up_to = chance.randint(0, len(self.texts))
                copy = await session.copy(up_to_seq=up_to)
                self.copies[copy.session_id] = self.texts[:up_to]
            case "bookmark":
                name, seq = f"b{len(self.bookmarks)}-{self.epoch}", len(self.texts)
                await session.bookmarks.create(name, seq=seq, replace=True)
                self.bookmarks[name] = seq
            case "link" if self.texts:
                self.links = sorted({*self.links, chance.randint(1, len(self.texts))})
                await session.tasks.update("t", message_seqs=self.links)
        await self.rewind(session)

    async def rewind(self, session: AsyncSession) -> None:
        # Most rewinds remove at most 30 messages. One in twenty may remove any number.
        reach = len(self.texts) if self.chance.random() < 0.05 else min(len(self.texts), 30)
        to_seq = len(self.texts) - self.chance.randint(0, reach)
        new = self.new(self.chance.randint(0, 2))
        removed = len(self.texts) - to_seq
        if removed:
            self.histories.append(self.texts[:to_seq])
        self.texts.extend(new)
        result = await session.rewind(
            to_seq=to_seq, messages=said(*new) if new else None, abort_turn=True
        )
        assert (result.removed_count, result.epoch) == (removed, self.epoch)
        assert result.last_seq == len(self.texts)
        self.bookmarks = {name: seq for name, seq in self.bookmarks.items() if seq <= to_seq}
        self.links = [seq for seq in self.links if seq <= to_seq]

    @property
    def epoch(self) -> int:
        return len(self.histories) - 1


async def read(author: Author, wire: Wire, session_id: str, stop: asyncio.Event) -> dict[str, int]:
    """Read and resume again and again: each read returns one history, or HISTORY_REWOUND."""
    ends = {"whole": 0, "resumed": 0, "rewound": 0}
    while not stop.is_set():
        kind, epoch, texts = "whole", -1, list[str]()
        try:
            request = GetMessagesRequest(session_id=session_id)
            call = wire.sessions.GetMessages(request)
            async for batch in call:
                epoch = batch.epoch if epoch < 0 else epoch
                texts += texts_of(batch)
                if author.chance.random() < 0.3 and batch.resume_token:
                    # The connection breaks, and the reader comes back after a rewind.
                    call.cancel()
                    current = author.epoch
                    while author.epoch == current and not stop.is_set():
                        await asyncio.sleep(0.01)
                    kind = "resumed"
                    async for rest in wire.sessions.GetMessages(
                        GetMessagesRequest(session_id=session_id, resume_token=batch.resume_token)
                    ):
                        texts += texts_of(rest)
                    break
        except grpc.aio.AioRpcError as error:
            if taken_apart(error).reason != "HISTORY_REWOUND":
                raise
            kind = "rewound"
        ends[kind] += 1
        assert texts == author.histories[max(epoch, 0)][: len(texts)]
    return ends


async def watch(author: Author, wire: Wire, session_id: str, seed: int) -> list[str]:
    """Follow the session over broken connections until its last message."""
    chance = random.Random(seed)
    texts: list[str] = []
    epoch = 0
    while True:
        call = wire.conversations.Watch(
            WatchRequest(session_id=session_id, after_seq=len(texts), after_epoch=epoch)
        )
        async with asyncio.timeout(PATIENCE_S):
            async for response in call:
                for event in response.events:
                    if event.type == "session.rewound":
                        assert event.epoch > epoch
                        epoch = event.epoch
                        del texts[int(event.data["last_seq"]) :]
                    elif event.seq:
                        assert (event.epoch, event.seq) == (epoch, len(texts) + 1)
                        texts.append(json.loads(event.message.json)["content"])
                        assert texts == author.histories[epoch][: len(texts)]
                        if texts[-1] == "the end":
                            call.cancel()
                            return texts
                if chance.random() < 0.05:
                    break
        call.cancel()


async def work(client: AsyncClient, session_id: str, stop: asyncio.Event) -> int:
    """Process the queue. Return how many leases were lost."""
    lost = 0
    while True:
        is_last = stop.is_set()
        leases = await client.processing.lease("q", max_messages=20)
        for lease in leases:
            try:
                await client.processing.acknowledge(lease)
            except errors.LeaseLost:
                lost += 1
        if is_last and not leases:
            return lost


async def run(start_server: Start, database_url: str, steps: int) -> None:
    servers = [
        start_server("--purge-interval-s", "0.2", SESSIOND_DATABASE_URL=database_url)
        for _ in range(2)
    ]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(s.target)) for s in servers]
        wires = [
            Wire(await stack.enter_async_context(grpc.aio.insecure_channel(server.target)))
            for server in servers
        ]
        session = await clients[0].create_session(model="echo")
        session_id = session.session_id
        author = Author([session, await clients[1].get_session(session_id)], random.Random(steps))
        await session.tasks.create(task_id="t")
        stop = asyncio.Event()
        readers = [asyncio.create_task(read(author, wire, session_id, stop)) for wire in wires]
        watchers = [
            asyncio.create_task(watch(author, wire, session_id, seed))
            for seed, wire in enumerate(wires)
        ]
        worker = asyncio.create_task(work(clients[1], session_id, stop))
        for _ in range(steps):
            await author.step()
            for task in (*readers, *watchers, worker):
                if task.done():
                    task.result()
        author.texts.append("the end")
        await session.store_messages(said("the end"))
        stop.set()
        assert await asyncio.gather(*watchers) == [author.texts, author.texts]
        ends = await asyncio.gather(*readers)
        assert sum(end["whole"] + end["resumed"] for end in ends)
        await worker
        counts = await clients[0].processing.counts("q", session_id)
        # The counts are those of the session only, although the queue also holds its copies.
        assert (counts.success, counts.pending) == (len(author.texts), 0)
        for at in author.session:
            assert [message.content async for message in at.get_messages()] == author.texts
        marks = {mark.name: mark.seq async for mark in session.bookmarks.list()}
        assert marks == author.bookmarks
        assert list((await session.tasks.get("t")).message_seqs) == author.links
        for copy_id, texts in author.copies.items():
            copied = clients[1].sessions.get_messages(copy_id)
            assert [message.content async for message in copied] == texts
        await assert_url_whole(database_url)


async def test_everybody_follows_random_rewinds(start_server: Start, database_url: str) -> None:
    await run(start_server, database_url, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_everybody_follows_1_000_random_rewinds(
    start_server: Start, database_url: str
) -> None:
    await run(start_server, database_url, 1000)


async def kill_at_any_moment(start_server: Start, database_url: str, kills: int) -> None:
    """Kill the server while it rewinds. The history must be that before or after the rewind."""
    chance = random.Random(kills)
    texts = [f"{i}" for i in range(10)]
    ends = {"before": 0, "after": 0}
    session_id = ""
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    for number in range(kills):
        async with AsyncClient(server.target, timeout=2) as client:
            if not session_id:
                session = await client.create_session()
                session_id = session.session_id
                await session.store_messages(said(*texts))
            session = await client.get_session(session_id)
            # A connection is open, so that the request arrives at once.
            assert [message.content async for message in session.get_messages()] == texts
            after = [*texts[:-2], f"{number}a", f"{number}b", f"{number}c"]
            rewinding = asyncio.create_task(
                session.rewind(drop_last=2, messages=said(*after[-3:]), request_id=f"r{number}")
            )
            await asyncio.sleep(chance.uniform(0, 0.03))
            server.kill()
            await asyncio.gather(rewinding, return_exceptions=True)
        is_acknowledged = not rewinding.exception()
        server = start_server(SESSIOND_DATABASE_URL=database_url)
        async with AsyncClient(server.target) as client:
            session = await client.get_session(session_id)
            found = [message.content async for message in session.get_messages()]
            info = await session.refresh()
            assert found in ([after] if is_acknowledged else [texts, after])
            assert info.content_bytes == sum(
                [message.content_bytes async for message in session.get_messages()]
            )
            ends["after" if found == after else "before"] += 1
            # The repeated rewind must have the result of the first attempt.
            result = await session.rewind(
                drop_last=2, messages=said(*after[-3:]), request_id=f"r{number}"
            )
            assert (result.removed_count, result.last_seq) == (2, len(after))
            assert [message.content async for message in session.get_messages()] == after
        # Use this server for the next kill, because a start takes seconds.
        texts = after
    assert ends["before"] + ends["after"] == kills
    await assert_url_whole(database_url)


async def test_a_killed_server_leaves_the_history_before_or_after(
    start_server: Start, database_url: str
) -> None:
    await kill_at_any_moment(start_server, database_url, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_server_that_is_killed_many_times_leaves_the_history_before_or_after(
    start_server: Start, database_url: str
) -> None:
    await kill_at_any_moment(start_server, database_url, 40)
