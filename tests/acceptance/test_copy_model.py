"""Copies and rewinds against a plain model in memory.

Sessions are created, appended to, copied, rewound, deleted, recreated, purged and flattened in
random order.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from sessiond import Client, NewMessage, errors
from sessiond_server.copies.flattening import Flattener
from sessiond_server.copies.store import flattening
from sessiond_server.copies.store.flattening import FlatteningStore
from sessiond_server.db.pool import Database
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.server import Running
from sessiond_server.watch.hub import WatchHub
from sessiond_server.watch.store import WatchStore

from ..conftest import purger_of
from ..support.integrity import assert_whole
from ..support.processes import ServerProcess
from ..support.wire import Wire

# Stored messages that neither the log's own session nor a segment reaches.
ORPHANS = """
SELECT count(*) FROM messages AS m
WHERE NOT EXISTS (
        SELECT FROM sessions AS s WHERE s.key = m.key AND COALESCE(s.message_log, s.log) = m.log
    )
    AND NOT EXISTS (
        SELECT FROM segments AS g
        WHERE g.src_key = m.key AND g.src_log = m.log AND m.seq BETWEEN g.first_seq AND g.last_seq
    )"""
STRAY_SEGMENTS = """
SELECT count(*) FROM segments AS g
WHERE NOT EXISTS (SELECT FROM sessions AS s WHERE s.key = g.key)"""
TABLES = (
    "messages",
    "message_ids",
    "parent_links",
    "segments",
    "bookmarks",
    "session_state",
    "rewinds",
    "dead_logs",
    "sessions",
)


@pytest.fixture
def flattens_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server flatten chains of three or more segments."""
    monkeypatch.setattr(
        flattening, "_LONG", flattening._LONG.replace("short_segments > 16", "short_segments > 2")
    )


@pytest.fixture
def run_machine(
    start_server: Callable[..., ServerProcess], database_url: str, flattens_early: None
) -> Iterator[Callable[[int, int], None]]:
    server = start_server("--purge-interval-s", "3600", SESSIOND_DATABASE_URL=database_url)
    with (
        asyncio.Runner() as runner,
        Client(server.target) as client,
        psycopg.connect(database_url, autocommit=True) as connection,
    ):
        database = Database(database_url, size=2)
        runner.run(database.open())
        watching = WatchHub(
            WatchStore(database),
            HistoryStore(database),
            CutStore(database),
            lambda: None,
        )
        purger = Purger(
            PurgeStore(database),
            Flattener(FlatteningStore(database)),
            watching,
            interval_s=3600,
            request_retention_s=86_400,
        )
        machine_class = _machine(
            client,
            lambda: runner.run(purger.round()),
            lambda: runner.run(assert_whole(database)),
            connection,
        )

        def run(examples: int, steps: int) -> None:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                machine_class,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    database=None,
                ),
            )

        yield run
        runner.run(database.close())


def _machine(
    client: Client,
    purge: Callable[[], Any],
    verify: Callable[[], Any],
    connection: psycopg.Connection[Any],
) -> type[RuleBasedStateMachine]:
    runs = iter(range(10**9))

    class Sessions(RuleBasedStateMachine):
        """The model maps each session_id to its texts, epoch, bookmarks, parents, ids and state."""

        ids = Bundle("ids")

        def __init__(self) -> None:
            super().__init__()
            self.model: dict[str, list[str]] = {}
            self.epochs: dict[str, int] = {}
            # For each session: the bookmarks' seqs by name, and the messages' parent_seqs by seq.
            self.bookmarks: dict[str, dict[str, int]] = {}
            self.parents: dict[str, dict[int, int]] = {}
            # For each session: the messages' seqs by message_id, and the state's values by key.
            self.names: dict[str, dict[str, int]] = {}
            self.states: dict[str, dict[str, int]] = {}
            self.run = next(runs)
            self.number = 0
            self.steps = 0

        def fresh(self) -> str:
            self.number += 1
            return f"{self.run}.{self.number}"

        def texts(self, count: int) -> list[str]:
            return [self.fresh() for _ in range(count)]

        def begin(self, session_id: str) -> None:
            self.model[session_id] = []
            self.epochs[session_id] = 0
            self.bookmarks[session_id] = {}
            self.parents[session_id] = {}
            self.names[session_id] = {}
            self.states[session_id] = {}

        def keep(self, session_id: str, last_seq: int) -> None:
            """Remove the messages after a seq, and everything that refers to them."""
            del self.model[session_id][last_seq:]
            parents = self.parents[session_id]
            self.parents[session_id] = {seq: parents[seq] for seq in parents if seq <= last_seq}
            for kept in (self.bookmarks, self.names):
                named = kept[session_id]
                kept[session_id] = {name: named[name] for name in named if named[name] <= last_seq}

        @rule(target=ids, count=st.integers(0, 4))
        def create(self, count: int) -> str:
            session_id = f"s{self.fresh()}"
            client.create_session(session_id)
            self.begin(session_id)
            if count:
                self.append(session_id, count)
            return session_id

        @rule(session_id=ids, count=st.integers(1, 5))
        def append(self, session_id: str, count: int) -> None:
            new = self.texts(count)
            if session_id not in self.model:
                with pytest.raises(errors.SessionNotFound):
                    client.sessions.store_message(session_id, {"role": "user", "content": "x"})
                return
            stored = client.sessions.store_messages(
                session_id, [{"role": "user", "content": text} for text in new]
            )
            assert stored.first_seq == len(self.model[session_id]) + 1
            assert stored.epoch == self.epochs[session_id]
            self.model[session_id] += new

        @rule(
            session_id=ids,
            numbers=st.lists(st.integers(0, 9), min_size=1, max_size=5),
            key=st.sampled_from("abc"),
        )
        def append_named(self, session_id: str, numbers: list[int], key: str) -> None:
            if session_id not in self.model:
                return
            texts, names = self.model[session_id], self.names[session_id]
            sent = [(f"n{number}", self.fresh()) for number in numbers]
            messages = [
                NewMessage({"role": "user", "content": text}, message_id=name)
                for name, text in sent
            ]
            before = len(texts)
            for name, text in sent:
                if name not in names:
                    texts.append(text)
                    names[name] = len(texts)
            stored = client.sessions.store_messages(
                session_id, messages, on_duplicate="skip", state={key: self.number}
            )
            assert (len(stored), stored.last_seq) == (len(texts) - before, len(texts))
            assert stored.skipped == len(sent) - len(stored)
            if stored:
                self.states[session_id][key] = self.number

        @rule(session_id=ids, key=st.sampled_from("abc"), other=st.sampled_from("de"))
        def change_state(self, session_id: str, key: str, other: str) -> None:
            if session_id in self.model:
                state = self.states[session_id]
                state.pop(key, None)
                state[other] = self.number
                info = client.sessions.update(
                    session_id, state={other: self.number}, remove_state=[key]
                )
                assert info.state == state

        @rule(session_id=ids, place=st.floats(0, 1))
        def branch(self, session_id: str, place: float) -> None:
            if texts := self.model.get(session_id):
                parent = max(round(place * len(texts)), 1)
                blob = {"role": "user", "content": self.fresh()}
                stored = client.sessions.store_message(session_id, blob, parent_seq=parent)
                self.parents[session_id][stored.first_seq] = parent
                texts.append(blob["content"])

        @rule(session_id=ids, place=st.floats(0, 1))
        def bookmark(self, session_id: str, place: float) -> None:
            if session_id in self.model:
                seq = round(place * len(self.model[session_id]))
                name = f"b{self.fresh()}"
                client.bookmarks.create(session_id, name, seq=seq)
                self.bookmarks[session_id][name] = seq

        @rule(session_id=ids, place=st.floats(0, 1), count=st.integers(0, 3))
        def rewind(self, session_id: str, place: float, count: int) -> None:
            if session_id not in self.model:
                with pytest.raises(errors.SessionNotFound):
                    client.sessions.rewind(session_id, to_seq=0)
                return
            texts, new = self.model[session_id], self.texts(count)
            to_seq = round(place * len(texts))
            result = client.sessions.rewind(
                session_id,
                to_seq=to_seq,
                messages=[{"role": "user", "content": text} for text in new],
                expected_last_seq=len(texts),
                expected_epoch=self.epochs[session_id],
            )
            assert result.removed_count == len(texts) - to_seq
            self.epochs[session_id] += to_seq < len(texts)
            self.keep(session_id, to_seq)
            self.model[session_id] += new
            assert result.last_seq == len(self.model[session_id])
            assert result.epoch == self.epochs[session_id]

        @rule(session_id=ids)
        def pop(self, session_id: str) -> None:
            if session_id in self.model:
                texts = self.model[session_id]
                popped = client.sessions.pop(session_id)
                assert (popped.content if popped else None) == (texts[-1] if texts else None)
                self.epochs[session_id] += bool(texts)
                self.keep(session_id, max(len(texts) - 1, 0))

        @rule(target=ids, source=ids, cut=st.one_of(st.none(), st.floats(0, 1)))
        def copy(self, source: str, cut: float | None) -> Any:
            if source not in self.model:
                with pytest.raises(errors.SessionNotFound):
                    client.sessions.copy(source)
                return multiple()
            texts = self.model[source]
            up_to = None if cut is None else round(cut * len(texts))
            made = client.sessions.copy(source, f"c{self.fresh()}", up_to_seq=up_to)
            new_id = made.new_session_id
            self.begin(new_id)
            self.model[new_id] = list(texts)
            self.bookmarks[new_id] = dict(self.bookmarks[source])
            self.parents[new_id] = dict(self.parents[source])
            self.names[new_id] = dict(self.names[source])
            self.states[new_id] = dict(self.states[source])
            self.keep(new_id, len(texts) if up_to is None else up_to)
            return new_id

        @rule(session_id=ids)
        def delete(self, session_id: str) -> None:
            client.delete_session(session_id, allow_missing=session_id not in self.model)
            self.model.pop(session_id, None)

        @rule(target=ids, session_id=consumes(ids))
        def recreate(self, session_id: str) -> str:
            if session_id in self.model:
                client.delete_session(session_id)
            client.create_session(session_id)
            self.begin(session_id)
            return session_id

        @rule()
        def purge(self) -> None:
            # The purger keeps removed messages for a minute, because a repeated rewind may have to
            # return them. Make them older.
            connection.execute("UPDATE dead_logs SET queued_at = queued_at - interval '1 hour'")
            purge()
            assert connection.execute(ORPHANS).fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM dead_logs").fetchone() == (0,)

        @rule(session_id=ids)
        def read(self, session_id: str) -> None:
            if session_id not in self.model:
                with pytest.raises(errors.SessionNotFound):
                    list(client.sessions.get_messages(session_id))
                return
            self.check(session_id)

        @invariant()
        def every_segment_has_a_session(self) -> None:
            assert connection.execute(STRAY_SEGMENTS).fetchone() == (0,)

        def check(self, session_id: str) -> None:
            read = list(client.sessions.get_messages(session_id))
            assert [message.content for message in read] == self.model[session_id]
            assert [message.seq for message in read] == list(range(1, len(read) + 1))
            info = client.sessions.get(session_id)
            assert info.last_seq == len(read)
            assert info.epoch == self.epochs[session_id]
            parents = {m.seq: m.parent_seq for m in read if m.parent_seq}
            assert parents == self.parents[session_id]
            assert {m.message_id: m.seq for m in read if m.message_id} == self.names[session_id]
            for name, seq in self.names[session_id].items():
                assert client.sessions.get_message(session_id, message_id=name).seq == seq
            assert info.state == self.states[session_id]
            if read:
                seq, path = len(read), list[int]()
                while seq:
                    path.append(seq)
                    seq = parents.get(seq, seq - 1)
                branch = client.sessions.get_messages(session_id, branch_of=len(read))
                assert [message.seq for message in branch] == path[::-1]
            marks = {mark.name: mark.seq for mark in client.bookmarks.list(session_id)}
            assert marks == self.bookmarks[session_id]
            assert info.content_bytes == sum(message.content_bytes for message in read)
            assert info.token_count == sum(message.token_count for message in read)

        def teardown(self) -> None:
            for clean_up in (lambda: None, purge):
                clean_up()
                verify()
                for session_id in self.model:
                    self.check(session_id)
            for session_id in list(self.model):
                client.delete_session(session_id)
            connection.execute("UPDATE dead_logs SET queued_at = queued_at - interval '1 hour'")
            purge()
            for table in TABLES:
                assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table

    return Sessions


def test_copies_match_a_model_in_any_order_of_calls(
    run_machine: Callable[[int, int], None],
) -> None:
    run_machine(20, 30)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_copies_match_a_model_over_10_000_calls(run_machine: Callable[[int, int], None]) -> None:
    run_machine(100, 100)


async def test_concurrent_copies_of_one_template_match_their_models(
    wire: Wire, server: Running, flattens_early: None, database_url: str
) -> None:
    """Eight workers copy, append and delete while purgers run. Each worker has its own model."""
    await wire.create("template")
    await wire.store("template", *(f"t{i}" for i in range(10)))
    done = asyncio.Event()

    async def grow(worker: int) -> None:
        chance = random.Random(worker)
        model: dict[str, list[str]] = {}
        count = 0
        for step in range(60):
            session_id = chance.choice([*model, "template"])
            texts = model.get(session_id, [f"t{i}" for i in range(10)])
            match chance.choice(["copy", "copy", "append", "delete", "read"]):
                case "copy" if step < 40 or session_id != "template":
                    count += 1
                    cut = chance.randint(0, len(texts))
                    new = f"{worker}-{count}"
                    await wire.copy(session_id, new, up_to_seq=cut)
                    model[new] = texts[:cut]
                case "append" if session_id != "template":
                    new_texts = [f"{worker}.{step}.{i}" for i in range(chance.randint(1, 3))]
                    await wire.store(session_id, *new_texts)
                    model[session_id] = texts + new_texts
                case "delete" if session_id != "template":
                    await wire.delete(session_id)
                    del model[session_id]
                case _ if session_id in model:
                    assert await wire.texts(session_id) == texts
        for session_id, texts in model.items():
            assert await wire.texts(session_id) == texts
        for session_id in model:
            await wire.delete(session_id)

    async def purge() -> None:
        purger = purger_of(server)
        while not done.is_set():
            await purger.round()

    purgers = [asyncio.create_task(purge()) for _ in range(2)]
    await asyncio.gather(*(grow(worker) for worker in range(8)))
    done.set()
    await asyncio.gather(*purgers)
    await wire.delete("template")
    await purger_of(server).round()
    with psycopg.connect(database_url) as connection:
        for table in TABLES:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
