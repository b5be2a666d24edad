"""The page cache of a server: its hits, its misses, and the correctness of both."""

import random
from typing import Any

import pytest
from psycopg.rows import TupleRow

from sessiond_server.messages.store.history import HistoryStore, PageQuery

from ..support.wire import Wire, openai


@pytest.fixture
def read_seqs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seqs of all messages that the server reads from the database, in order."""
    seqs: list[int] = []
    page = HistoryStore.page

    async def noted(self: HistoryStore, query: PageQuery, **options: Any) -> list[TupleRow]:
        rows = await page(self, query, **options)
        seqs.extend(row[0] for row in rows)
        return rows

    monkeypatch.setattr(HistoryStore, "page", noted)
    return seqs


async def test_a_session_that_was_read_is_read_from_the_cache(
    wire: Wire, read_seqs: list[int]
) -> None:
    await wire.create("one")
    await wire.store("one", *map(str, range(500)))
    first = await wire.read("one")
    assert read_seqs == [*range(1, 501)]
    read_seqs.clear()
    assert await wire.read("one") == first
    assert read_seqs == []


async def test_only_the_messages_appended_since_are_read_from_the_database(
    wire: Wire, read_seqs: list[int]
) -> None:
    await wire.create("one")
    await wire.store("one", *map(str, range(500)))
    await wire.read("one")
    for seq in range(501, 504):
        await wire.store("one", str(seq))
        read_seqs.clear()
        assert [message.seq for message in await wire.read("one")] == [*range(1, seq + 1)]
        assert read_seqs == [seq]


async def test_a_copy_reads_the_cached_pages_of_its_source(
    wire: Wire, read_seqs: list[int]
) -> None:
    await wire.create("one")
    await wire.store("one", *map(str, range(300)))
    await wire.read("one")
    await wire.copy("one", "two")
    read_seqs.clear()
    assert [message.seq for message in await wire.read("two")] == [*range(1, 301)]
    assert read_seqs == []


@pytest.mark.parametrize("seed", range(3))
async def test_cached_reads_equal_what_was_stored_whatever_happens_to_sessions(
    wire: Wire, seed: int
) -> None:
    """Appends, rewinds, copies and windows at random, compared with lists in memory."""
    chosen = random.Random(seed)
    stored: dict[str, list[str]] = {"s0": []}
    await wire.create("s0")
    number = 0
    for _ in range(120):
        session_id = chosen.choice([*stored])
        texts = stored[session_id]
        match chosen.choices(("append", "rewind", "copy", "read"), (4, 1, 1, 6))[0]:
            case "append":
                added = [str(number + i) for i in range(chosen.choice((1, 1, 2, 15, 40, 300)))]
                number += len(added)
                await wire.store(session_id, *added)
                texts += added
            case "rewind" if texts:
                kept = chosen.randint(0, len(texts))
                await wire.rewind(session_id, to_seq=kept)
                del texts[kept:]
            case "copy" if len(stored) < 6:
                new_id = f"s{len(stored)}"
                await wire.copy(session_id, new_id)
                stored[new_id] = [*texts]
            case "read":
                after = chosen.choice((0, 0, chosen.randint(0, len(texts))))
                through = chosen.choice((0, 0, chosen.randint(0, len(texts) + 3)))
                limit = chosen.choice((0, 0, 1, 50))
                found = await wire.read(
                    session_id, after_seq=after, through_seq=through, limit=limit
                )
                expected = [*enumerate(texts, 1)][after : through or None]
                assert [(message.seq, message.json) for message in found] == [
                    (seq, openai(text).json) for seq, text in expected[: limit or None]
                ]
