"""ListSessions: order, pages, filters, plans."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import psycopg
import pytest

from sessiond.v1.session_pb2 import SESSION_STATUS_ACTIVE, SESSION_STATUS_DESTROYED, Session
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_ACTIVE_ASC,
    SESSION_ORDER_CREATED_ASC,
    SESSION_ORDER_CREATED_DESC,
    SESSION_ORDER_ID_ASC,
    ListSessionsRequest,
)
from sessiond_server.core import pagination
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.sessions.store.filters import SessionFilter
from sessiond_server.sessions.store.listing import Listing, list_statement
from sessiond_server.sessions.store.sessions import COLUMNS

from ..support.wire import Wire, error_of


def ids(sessions: list[Session]) -> list[str]:
    return [session.session_id for session in sessions]


@pytest.fixture
async def five(wire: Wire) -> Wire:
    """Sessions "a" to "e", created in this order. A message was then appended to "a"."""
    for i, name in enumerate("abcde"):
        await wire.create(
            name,
            user=f"user-{i % 2}",
            model="m" if i < 3 else "n",
            metadata={"i": i, "tags": ["x", name]},
            config={"t": 0.5},
        )
    await wire.store("a", "hello")
    return wire


async def test_the_most_recently_active_comes_first(five: Wire) -> None:
    assert ids(await five.list()) == list("aedcb")
    await five.store("c", "x")
    await five.destroy("d")
    assert ids(await five.list()) == list("dcaeb")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (SESSION_ORDER_CREATED_DESC, "edcba"),
        (SESSION_ORDER_CREATED_ASC, "abcde"),
        (SESSION_ORDER_ID_ASC, "abcde"),
        (0, "aedcb"),
    ],
)
async def test_orders_hold_across_pages(five: Wire, order: int, expected: str) -> None:
    for page_size in (1, 2, 3, 5, 500, 100_000):
        assert ids(await five.list(order=order, page_size=page_size)) == list(expected)


async def test_rows_carry_times_count_and_summary(five: Wire) -> None:
    row = (await five.list())[0]
    assert (row.message_count, row.summary) == (1, "hello")
    assert row.active_time.ToNanoseconds() > row.create_time.ToNanoseconds()
    got = await five.get("a")
    assert (got.state_json, got.state_etag != "") == ("{}", True)
    got.ClearField("state_json")
    got.ClearField("state_etag")
    assert row == got


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"user": "user-1"}, "db"),
        ({"model": "n"}, "ed"),
        ({"status": SESSION_STATUS_ACTIVE}, "aedcb"),
        ({"status": SESSION_STATUS_DESTROYED}, ""),
        ({"metadata_contains": {"i": 2}}, "c"),
        ({"metadata_contains": {"tags": ["x"]}}, "aedcb"),
        ({"metadata_contains": {"tags": ["b"]}}, "b"),
        ({"metadata_contains": {"none": None}}, ""),
        ({"config_contains": {"t": 0.5}, "user": "user-0"}, "aec"),
        ({"session_id_prefix": "b"}, "b"),
        ({"session_id_prefix": "B"}, ""),
        ({"created_from": datetime(2100, 1, 1, tzinfo=UTC)}, ""),
        ({"created_before": datetime(2100, 1, 1, tzinfo=UTC)}, "aedcb"),
    ],
)
async def test_filters(five: Wire, filters: dict[str, object], expected: str) -> None:
    assert ids(await five.list(**filters)) == list(expected)
    assert ids(await five.list(page_size=1, **filters)) == list(expected)


async def test_time_ranges_include_their_start_and_not_their_end(five: Wire) -> None:
    created = (await five.get("c")).create_time.ToDatetime(tzinfo=UTC)
    active = (await five.get("a")).active_time.ToDatetime(tzinfo=UTC)
    assert ids(await five.list(created_from=created)) == list("aedc")[1:]
    assert ids(await five.list(created_before=created)) == list("ab")
    assert ids(await five.list(active_from=active)) == ["a"]
    assert ids(await five.list(active_before=active)) == list("edcb")
    assert ids(await five.list(active_before=active + timedelta(microseconds=1))) == list("aedcb")


@pytest.mark.parametrize("prefix", ["user-1", "50%", "a_b", "\u00ff", "\U0010ffff", "x\ud7ff"])
async def test_prefixes_are_literal(wire: Wire, prefix: str) -> None:
    wanted = [prefix, prefix + "-a", prefix + "\U0010ffff"]
    for name in [*wanted, prefix[:-1] + "zz", "other", "50x", "axb"]:
        await wire.create(name, get_or_create=True)
    assert sorted(ids(await wire.list(session_id_prefix=prefix))) == sorted(wanted)


async def test_new_sessions_do_not_change_later_pages(five: Wire) -> None:
    request = ListSessionsRequest(page_size=2)
    first = await five.sessions.ListSessions(request)
    await five.create("new")
    request.page_token = first.next_page_token
    second = await five.sessions.ListSessions(request)
    assert ids(list(first.sessions)) + ids(list(second.sessions)) == list("aedc")


async def test_tokens_belong_to_their_query(five: Wire) -> None:
    token = (await five.sessions.ListSessions(ListSessionsRequest(page_size=2))).next_page_token
    for fields in (
        {"filter": {"user": "user-1"}},
        {"order": SESSION_ORDER_ID_ASC},
    ):
        error = await error_of(
            five.sessions.ListSessions(ListSessionsRequest(**({"page_token": token} | fields)))
        )
        assert (error.code, error.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_PAGE_TOKEN",
        )
    # The page size may differ between pages.
    rest = await five.sessions.ListSessions(ListSessionsRequest(page_token=token, page_size=10))
    assert ids(list(rest.sessions)) == list("dcb")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"filter": {"status": 9}}, "filter.status"),
        ({"order": 9}, "order"),
        ({"filter": {"session_id_prefix": "x" * 1025}}, "filter.session_id_prefix"),
        ({"filter": {"session_id_prefix": "a\0"}}, "filter.session_id_prefix"),
        ({"filter": {"user": "\0"}}, "filter.user"),
        ({"filter": {"model": "\0"}}, "filter.model"),
    ],
)
async def test_wrong_requests_name_the_field(
    wire: Wire, fields: dict[str, object], field: str
) -> None:
    error = await error_of(wire.sessions.ListSessions(ListSessionsRequest(**fields)))  # type: ignore[arg-type]
    assert (error.reason, list(error.fields)) == ("INVALID_FIELD", [field])


async def test_times_out_of_range_name_the_field(wire: Wire) -> None:
    request = ListSessionsRequest()
    request.filter.active_from.seconds = 2**62
    error = await error_of(wire.sessions.ListSessions(request))
    assert list(error.fields) == ["filter.active_from"]


@pytest.mark.every_postgres
@pytest.mark.parametrize(
    ("listing", "index"),
    [
        ({"order": "active_desc"}, "sessions_activity_idx"),
        ({"order": "active_desc", "user_name": "user-7"}, "sessions_user_idx"),
        ({"order": "created_desc"}, "sessions_created_idx"),
        ({"order": "created_asc"}, "sessions_created_idx"),
        ({"order": "id_asc"}, "sessions_project_id_session_id_key"),
        ({"order": "id_asc", "session_id_prefix": "s-199"}, "sessions_project_id_session_id_key"),
        ({"order": "active_desc", "metadata_contains": {"n": 77}}, "sessions_metadata_idx"),
    ],
)
def test_pages_are_read_from_an_index(
    seeded_url: str, listing: dict[str, object], index: str
) -> None:
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    chosen = {name: value for name, value in listing.items() if name != "order"}
    statement = list_statement(
        Listing(SessionFilter(DEFAULT_PROJECT_ID, **chosen), listing["order"], 51), COLUMNS
    )  # type: ignore[arg-type]
    compiled = statement.compile(dialect=PGDialect_psycopg())
    with psycopg.connect(seeded_url) as connection:
        [[plan]] = connection.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}".encode(), compiled.params
        ).fetchall()
    nodes = list(_nodes(plan[0]["Plan"]))
    assert index in {node.get("Index Name") for node in nodes}
    looked_at = max(node["Actual Rows"] * node["Actual Loops"] for node in nodes)
    assert looked_at <= 1100  # a page sorts at most MAX_SORTED (1,000) sessions


def _nodes(plan: dict[str, object]):  # type: ignore[no-untyped-def]
    yield plan
    for child in plan.get("Plans", []):  # type: ignore[attr-defined]
        yield from _nodes(child)


@pytest.fixture
def seeded_url(database_url: str) -> str:
    """20,000 sessions over 20 minutes."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO sessions (key, project_id, session_id, log, state, user_name, metadata,
                created_at, active_at, used_at)
            SELECT gen_random_uuid(), %s, 's-' || i, gen_random_uuid(), 1, 'user-' || i %% 1000,
                jsonb_build_object('n', i %% 5000), t, t, t
            FROM generate_series(1, 20000) AS i,
                LATERAL (SELECT now() - i * interval '60 ms' AS t) AS times
            """,
            [DEFAULT_PROJECT_ID],
        )
        connection.execute("VACUUM ANALYZE sessions")
    return database_url


@pytest.mark.parametrize(
    ("order", "values"),
    [
        ("active_desc", [2**40, "2026-01-01T00:00:00+00:00", "0" * 32]),
        ("active_desc", [1e308, "2026-01-01T00:00:00+00:00", "0" * 32]),
        ("active_desc", [1, "0001-01-01T00:00:00+23:59", "0" * 32]),
        ("created_desc", ["9999-12-31T23:59:59-23:59", "0" * 32]),
        ("created_desc", ["2026-01-01T00:00:00", "0" * 32]),
        ("created_asc", [7, "0" * 32]),
        ("created_asc", []),
        ("id_asc", ["a\0"]),
        ("id_asc", [None]),
        ("id_asc", ["\ud83d"]),
    ],
)
async def test_altered_tokens_are_refused(wire: Wire, order: str, values: list[object]) -> None:
    """Tokens are not signed, so they may contain any values."""
    number = {"active_desc": 1, "created_desc": 2, "created_asc": 3, "id_asc": 4}[order]
    question = pagination.fingerprint(
        "sessions", Listing(SessionFilter(DEFAULT_PROJECT_ID), order, 0)
    )
    token = (
        base64.urlsafe_b64encode(json.dumps([pagination.VERSION, question, *values]).encode())
        .rstrip(b"=")
        .decode()
    )
    error = await error_of(
        wire.sessions.ListSessions(ListSessionsRequest(order=number, page_token=token))
    )  # type: ignore[arg-type]
    assert (error.reason, list(error.fields)) == ("INVALID_PAGE_TOKEN", ["page_token"])


async def test_the_least_recently_active_come_first_in_the_opposite_order(wire: Wire) -> None:
    for name in "abcde":
        await wire.create(name)
    for name in "cabed":
        await wire.store(name, "x")
    found = [s.session_id for s in await wire.list(order=SESSION_ORDER_ACTIVE_ASC, page_size=2)]
    assert found == [*"cabed"]
    assert [s.session_id for s in await wire.list(page_size=2)] == found[::-1]


@pytest.mark.parametrize("large", ["options", "numbers"])
async def test_large_sessions_make_short_pages(wire: Wire, large: str) -> None:
    fields: dict[str, Any] = {"metadata": {"n": [1.0] * 20_000}}
    if large == "options":
        fields = {"config": {"model_options": json.dumps({"x": "a" * 1_000_000})}}
    made = {f"large-{i:02}" for i in range(30)}
    for name in made:
        await wire.create(name, **fields)
    seen: list[str] = []
    token = ""
    while token or not seen:
        page = await wire.sessions.ListSessions(
            ListSessionsRequest(order=SESSION_ORDER_ID_ASC, page_size=500, page_token=token)
        )
        assert page.ByteSize() < 4 * 1024 * 1024
        seen += ids(page.sessions)
        token = page.next_page_token
    assert sorted(made) == seen


async def test_small_sessions_fill_a_page(wire: Wire) -> None:
    for i in range(20):
        await wire.create(f"small-{i}", metadata={"i": i})
    page = await wire.sessions.ListSessions(ListSessionsRequest(page_size=20))
    assert len(page.sessions) == 20
    assert not page.next_page_token
