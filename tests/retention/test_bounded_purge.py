"""The purger deletes a bounded number of rows in each transaction, of every table."""

from collections.abc import Callable
from typing import Any

import pytest

from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.retention import purger as purger_module
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.purge import _DELETE_MESSAGES, LogPurge, PurgeStore
from sessiond_server.server import Running

from ..support.wire import Wire

Query = Callable[..., list[tuple[object, ...]]]

BATCH = 1_000
# For each table, the columns to set in a log's rows, and the SQL of their values in row i.
OWN = {
    "tasks": (
        "task_id, position, status, message_seqs, created_at, updated_at",
        "i::text, i, 1, '{}', now(), now()",
    ),
    "bookmarks": ("name, seq, created_at, updated_at", "i::text, 1, now(), now()"),
    "processing": (
        "queue, project_id, is_ready, ready_at",
        f"i::text, '{DEFAULT_PROJECT_ID}', false, now()",
    ),
    "processing_exceptions": ("queue, seq, status", "'q', i, 4"),
    "requests": ("request_id, content_hash, created_at", "i::text, '', now()"),
    "turns": (
        "turn_id, place, state, model, timeout_ms, created_at",
        "gen_random_uuid(), i, 3, 'm', 1, now()",
    ),
    "messages": (
        "seq, role, format, content_bytes, created_at, body",
        "i, 3, 1, 1, now(), '\\x00'",
    ),
}
RECORD_DELETIONS = """
CREATE TABLE deletions (transaction bigint, of text, rows bigint);
CREATE FUNCTION record_deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO deletions SELECT txid_current(), TG_TABLE_NAME, count(*) FROM gone;
    RETURN NULL;
END $$;
"""


@pytest.fixture
def largest_transaction(query: Query) -> Callable[[], int]:
    """Return the maximum number of rows that one transaction has deleted. Triggers count them."""
    query(RECORD_DELETIONS)
    for table in (*OWN, "asset_refs", "dead_logs"):
        query(
            f"CREATE TRIGGER record AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone "
            "FOR EACH STATEMENT EXECUTE FUNCTION record_deletion()"
        )

    def largest() -> int:
        [(rows,)] = query(
            "SELECT max(rows)::int FROM (SELECT sum(rows) AS rows FROM deletions "
            "WHERE of <> 'dead_logs' GROUP BY transaction) AS t"
        )
        assert isinstance(rows, int)
        return rows

    return largest


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that returns the number of statements that purges have run."""
    count = 0
    run = PurgeStore._run_prepared

    async def counted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return await run(*arguments)

    monkeypatch.setattr(PurgeStore, "_run_prepared", counted)
    return lambda: count


def add_rows(query: Query, table: str, count: int) -> None:
    """Give each session's log `count` rows."""
    columns, values = OWN[table]
    query(
        f"INSERT INTO {table} (key, log, {columns}) "
        f"SELECT key, log, {values} FROM sessions, generate_series(1, %s) AS i",
        [count],
    )


def refer_to_assets(query: Query) -> None:
    """Give each message 30 references to assets."""
    query(
        "INSERT INTO asset_refs (key, log, seq, sha256, project_id) "
        "SELECT key, log, seq, decode(lpad(i::text, 64, '0'), 'hex'), %s "
        "FROM messages, generate_series(1, 30) AS i",
        [DEFAULT_PROJECT_ID],
    )


def rows_left(query: Query) -> dict[str, object]:
    counts = {table: query(f"SELECT count(*) FROM {table}")[0][0] for table in (*OWN, "dead_logs")}
    return {table: count for table, count in counts.items() if count}


@pytest.mark.parametrize("table", OWN)
async def test_a_table_with_many_rows_is_deleted_in_batches(
    wire: Wire,
    query: Query,
    purger: Purger,
    largest_transaction: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    monkeypatch.setattr(purger_module, "ROWS_A_BATCH", BATCH)
    await wire.create("one")
    add_rows(query, table, 25_000)
    await wire.delete("one")
    await purger.round()
    assert rows_left(query) == {}
    assert largest_transaction() <= BATCH


async def test_rows_of_many_logs_share_one_batch(
    wire: Wire,
    query: Query,
    purger: Purger,
    largest_transaction: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(purger_module, "ROWS_A_BATCH", BATCH)
    for i in range(10):
        await wire.create(f"s{i}")
    for table in OWN:
        add_rows(query, table, 150)
    await wire.create("kept")
    await wire.store("kept", "x", request_id="r")
    for i in range(10):
        await wire.delete(f"s{i}")
    await purger.round()
    assert rows_left(query) == {"messages": 1, "requests": 1}
    assert largest_transaction() <= BATCH


async def test_references_to_assets_count_towards_the_batch(
    wire: Wire, query: Query, server: Running, largest_transaction: Callable[[], int]
) -> None:
    await wire.create("one")
    add_rows(query, "messages", 10)
    refer_to_assets(query)
    await wire.delete("one")
    store = PurgeStore(server.database)
    purged = [await store.purge_logs(10, 100) for _ in range(5)]
    assert purged == [
        LogPurge(0, 10, 100),
        LogPurge(0, 0, 100),
        LogPurge(0, 0, 100),
        LogPurge(1, 0, 10),
        LogPurge(0, 0, 0),
    ]
    assert largest_transaction() == 100
    assert query("SELECT count(*) FROM asset_refs") == [(0,)]


async def test_messages_of_a_log_that_a_copy_reads_go_with_their_references(
    wire: Wire, query: Query, server: Running, largest_transaction: Callable[[], int]
) -> None:
    """A message is deleted with its 30 references, so a batch of 70 rows has only two messages."""
    await wire.create("one")
    for _ in range(11):
        await wire.store("one", "x")
    refer_to_assets(query)
    await wire.copy("one", up_to_seq=1)
    await wire.delete("one")
    store = PurgeStore(server.database)
    purged = [await store.purge_logs(10, 70) for _ in range(7)]
    assert purged == [
        *[LogPurge(0, 2, 70)] * 4,
        LogPurge(1, 2, 62),
        *[LogPurge(0, 0, 0)] * 2,
    ]
    assert largest_transaction() == 62
    assert query("SELECT count(*), count(DISTINCT seq) FROM asset_refs") == [(30, 1)]


async def test_logs_share_the_statements_of_a_batch(
    wire: Wire, query: Query, server: Running, statements: Callable[[], int]
) -> None:
    """A purge of a hundred sessions takes as many statements as a purge of one."""
    counts = []
    for sessions in (1, 100):
        for i in range(sessions):
            await wire.create(f"s{i}")
        for table in ("messages", "tasks", "requests"):
            add_rows(query, table, 5)
        for i in range(sessions):
            await wire.delete(f"s{i}")
        before = statements()
        assert await PurgeStore(server.database).purge_logs(200, 10_000) == LogPurge(
            sessions, 5 * sessions, 15 * sessions
        )
        counts.append(statements() - before)
        assert rows_left(query) == {}
    assert counts[0] == counts[1] <= 10


@pytest.mark.every_postgres
def test_messages_are_deleted_by_range(query: Query) -> None:
    """If the planner assumes a small log, a join on seqs would be quadratic."""
    nil = "00000000-0000-0000-0000-000000000000"
    plan = query(
        f"EXPLAIN {_DELETE_MESSAGES}",
        {"key": nil, "log": nil, "first": 1, "end": None, "batch": BATCH},
    )
    assert "Index Scan using messages_pkey" in str(plan)
    assert "Join" not in str(plan)
    assert "Nested Loop" not in str(plan)
