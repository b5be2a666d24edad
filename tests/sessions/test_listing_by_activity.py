"""ListSessions by activity: crowded minutes, and the rows that a page reads of 50,000 sessions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_ACTIVE_ASC,
    SESSION_ORDER_ACTIVE_DESC,
    ListSessionsRequest,
)
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.sessions.store import listing as listings
from sessiond_server.sessions.store.filters import SessionFilter
from sessiond_server.sessions.store.listing import Listing, list_statement
from sessiond_server.sessions.store.sessions import COLUMNS

from ..support.wire import Wire

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
OLDEST = NOON - timedelta(seconds=21_000)


def insert(url: str, count: int, times: str, *, start: int = 0) -> None:
    """Insert sessions s-START and following; `times` is an SQL expression of the number i."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"""
            INSERT INTO sessions (key, project_id, session_id, log, state, user_name, model,
                metadata, config, created_at, active_at, used_at)
            SELECT gen_random_uuid(), %s, 's-' || i, gen_random_uuid(), 1 + (i %% 100 = 0)::int,
                'user-' || i %% 1000, 'model-' || i %% 3, jsonb_build_object('n', i %% 5000),
                jsonb_build_object('fiftieth', i %% 50 = 0), at, at, at
            FROM generate_series({start}, {start + count - 1}) AS i,
                LATERAL (SELECT {times} AS at) AS times
            """.encode(),
            [DEFAULT_PROJECT_ID],
        )
        connection.execute("VACUUM ANALYZE sessions")


async def walk(wire: Wire, order: int, page_size: int) -> list[Session]:
    found: list[Session] = []
    token = ""
    while True:
        page = await wire.sessions.ListSessions(
            ListSessionsRequest(order=order, page_size=page_size, page_token=token)
        )
        found += page.sessions
        if not (token := page.next_page_token):
            return found


def minute(session: Session) -> int:
    return session.active_time.seconds // 60


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 7, 500])
@pytest.mark.parametrize("order", [SESSION_ORDER_ACTIVE_DESC, SESSION_ORDER_ACTIVE_ASC])
async def test_each_session_is_listed_once_however_crowded_the_minutes_are(
    wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch, order: int, page_size: int
) -> None:
    """The minutes have 1, 2, 3, 4, 5 and 9 sessions. A minute of more than 3 is crowded."""
    monkeypatch.setattr(listings, "MAX_SORTED", 3)
    sizes = [4, 1, 3, 9, 2, 5]
    start = 0
    for i, size in enumerate(sizes):
        at = f"timestamptz '2026-11-01 12:{i:02}:00Z' + (i * 7 %% 60) * interval '1 second'"
        insert(database_url, size, at, start=start)
        start += size
    found = await walk(wire, order, page_size)
    assert sorted(s.session_id for s in found) == sorted(f"s-{i}" for i in range(sum(sizes)))
    if order == SESSION_ORDER_ACTIVE_DESC:
        found.reverse()
    assert [minute(s) for s in found] == sorted(minute(s) for s in found)
    sorted_minutes = [s for s in found if sizes[minute(s) % 60] <= 3]
    times = [s.active_time.ToNanoseconds() for s in sorted_minutes]
    assert times == sorted(times)


async def test_a_minute_that_gets_crowded_between_two_pages_stays_sorted(
    wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "MAX_SORTED", 3)
    at = "timestamptz '2026-11-01 12:00:00Z' + i * interval '1 second'"
    insert(database_url, 3, at)
    first = await wire.sessions.ListSessions(ListSessionsRequest(page_size=1))
    insert(database_url, 6, at, start=3)
    token, found = first.next_page_token, list(first.sessions)
    while token:
        page = await wire.sessions.ListSessions(ListSessionsRequest(page_size=1, page_token=token))
        found += page.sessions
        token = page.next_page_token
    assert [s.session_id for s in found] == ["s-2", "s-1", "s-0"]


async def test_a_crowded_minute_that_empties_between_two_pages_repeats_nothing(
    wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listings, "MAX_SORTED", 3)
    at = "timestamptz '2026-11-01 12:00:00Z' + i * interval '1 second'"
    insert(database_url, 8, at)
    first = await wire.sessions.ListSessions(ListSessionsRequest(page_size=4))
    seen = {s.session_id for s in first.sessions}
    gone = sorted({f"s-{i}" for i in range(8)} - seen)[:2]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM sessions WHERE session_id = ANY(%s)", [gone])
    second = await wire.sessions.ListSessions(
        ListSessionsRequest(page_size=1, page_token=first.next_page_token)
    )
    third = await wire.sessions.ListSessions(
        ListSessionsRequest(page_size=1, page_token=second.next_page_token)
    )
    later = {s.session_id for s in [*second.sessions, *third.sessions]}
    assert later == {f"s-{i}" for i in range(8)} - seen - set(gone)
    assert not third.next_page_token


# A page of sessions of which one in fifty matches reads some 3,500 rows. Since keys are random,
# that number has a standard deviation of 350.
MOST_READ = 6_000

LISTINGS: list[dict[str, Any]] = [
    {},
    {"user_name": "user-7"},
    {"user_name": "nobody"},
    {"metadata_contains": {"n": 77}},
    {"metadata_contains": {"n": -1}},
    {"config_contains": {"fiftieth": True}},
    {"config_contains": {"none": 1}},
    {"model": "nobody's"},
    {"model": "model-1"},
    {"status": 2},
    {"session_id_prefix": "s-4999"},
    {"session_id_prefix": "none"},
    {"active_before": OLDEST + timedelta(minutes=3)},
    {"active_from": NOON + timedelta(hours=5)},
    {"active_from": NOON - timedelta(minutes=20), "active_before": NOON - timedelta(minutes=18)},
    {"created_from": NOON + timedelta(hours=5)},
    {"created_before": OLDEST + timedelta(minutes=3)},
]


@pytest.mark.every_postgres
def test_no_page_reads_much_of_50_000_sessions(database_url: str) -> None:
    """30,000 of the sessions were active within one minute, the others in the six hours before."""
    noon = f"timestamptz '{NOON.isoformat()}'"
    insert(database_url, 30_000, f"{noon} + i * interval '1 ms'")
    insert(database_url, 20_000, f"{noon} - (i - 29000) * interval '1 second'", start=30_000)
    with psycopg.connect(database_url) as connection:
        for order in ("active_desc", "active_asc", "created_desc", "created_asc", "id_asc"):
            for filters in LISTINGS:
                chosen = SessionFilter(DEFAULT_PROJECT_ID, **filters)
                read = rows_read(connection, Listing(chosen, order, 51))
                assert read <= MOST_READ, (order, filters, read)


def rows_read(connection: psycopg.Connection[Any], listing: Listing) -> int:
    """Return the number of rows that the scans in a listing's plan read."""
    compiled = list_statement(listing, COLUMNS).compile(dialect=PGDialect_psycopg())
    [[plan]] = connection.execute(
        f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}".encode(), compiled.params
    ).fetchall()

    def read(node: dict[str, Any]) -> int:
        below = sum(read(child) for child in node.get("Plans", []))
        if "Relation Name" not in node:
            return below
        removed = node.get("Rows Removed by Filter", 0)
        removed += node.get("Rows Removed by Index Recheck", 0)
        return below + int((node["Actual Rows"] + removed) * node["Actual Loops"])

    return read(plan[0]["Plan"])
