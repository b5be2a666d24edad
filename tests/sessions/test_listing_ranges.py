"""ListSessions of a range of times, in orders whose indexes do not contain these times."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    SESSION_ORDER_ACTIVE_ASC,
    SESSION_ORDER_ACTIVE_DESC,
    SESSION_ORDER_CREATED_ASC,
    SESSION_ORDER_CREATED_DESC,
    SESSION_ORDER_ID_ASC,
    ListSessionsRequest,
)
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.sessions.store import listing as listings
from sessiond_server.sessions.store.filters import SessionFilter
from sessiond_server.sessions.store.listing import Listing

from ..support.wire import Wire
from .test_listing_by_activity import rows_read

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
ORDERS = {
    SESSION_ORDER_ACTIVE_DESC: lambda s: (-s.active_time.ToMilliseconds(),),
    SESSION_ORDER_ACTIVE_ASC: lambda s: (s.active_time.ToMilliseconds(),),
    SESSION_ORDER_CREATED_DESC: lambda s: (-s.create_time.ToMilliseconds(),),
    SESSION_ORDER_CREATED_ASC: lambda s: (s.create_time.ToMilliseconds(),),
    SESSION_ORDER_ID_ASC: lambda s: (s.session_id,),
}
RANGES: list[dict[str, datetime]] = [
    {"created_from": NOON + timedelta(hours=10), "created_before": NOON + timedelta(hours=20)},
    {"created_from": NOON + timedelta(hours=25)},
    {"active_from": NOON + timedelta(hours=12), "active_before": NOON + timedelta(hours=40)},
    {"active_before": NOON + timedelta(hours=8)},
]


def insert(url: str, count: int, created: str, active: str) -> None:
    """Insert sessions; `created` and `active` are SQL expressions of the number i."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"""
            INSERT INTO sessions (key, project_id, session_id, log, state, created_at, active_at,
                used_at)
            SELECT gen_random_uuid(), %s, 's-' || i, gen_random_uuid(), 1, %s + {created},
                %s + {active}, %s + {active}
            FROM generate_series(1, {count}) AS i
            """.encode(),
            [DEFAULT_PROJECT_ID, NOON, NOON, NOON],
        )
        connection.execute("VACUUM ANALYZE sessions")


@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("most", [0, 1000], ids=["many", "few"])
async def test_every_order_of_a_range_has_the_same_sessions(
    wire: Wire, database_url: str, monkeypatch: pytest.MonkeyPatch, order: Any, most: int
) -> None:
    monkeypatch.setattr(listings, "MAX_IN_RANGE", most)
    insert(database_url, 60, "i * interval '30 minutes'", "(i * 7 %% 60) * interval '1 hour'")
    everything = await wire.list(page_size=100)
    for times in RANGES:
        request = ListSessionsRequest(order=order, page_size=7)
        for name, time in times.items():
            getattr(request.filter, name).FromDatetime(time)
        found: list[Session] = []
        while True:
            page = await wire.sessions.ListSessions(request)
            found += page.sessions
            if not (token := page.next_page_token):
                break
            request.page_token = token
        expected = sorted((s for s in everything if _is_in(s, times)), key=ORDERS[order])
        assert len(expected) > 7
        assert [s.session_id for s in found] == [s.session_id for s in expected]


def _is_in(session: Session, times: dict[str, datetime]) -> bool:
    created = session.create_time.ToDatetime(UTC)
    active = session.active_time.ToDatetime(UTC)
    return (
        times.get("created_from", created) <= created
        and created < times.get("created_before", datetime.max.replace(tzinfo=UTC))
        and times.get("active_from", active) <= active
        and active < times.get("active_before", datetime.max.replace(tzinfo=UTC))
    )


@pytest.mark.every_postgres
def test_a_page_of_a_small_range_does_not_read_the_sessions_outside(database_url: str) -> None:
    """50,000 sessions: one was created in each minute, and none was used later."""
    insert(database_url, 50_000, "i * interval '1 minute'", "i * interval '1 minute'")
    middle = NOON + timedelta(minutes=25_000)
    day = (middle, middle + timedelta(minutes=1_000))
    with psycopg.connect(database_url) as connection:
        for order in ("active_desc", "active_asc", "created_desc", "created_asc", "id_asc"):
            for what in ("created", "active"):
                chosen = SessionFilter(
                    DEFAULT_PROJECT_ID,
                    **dict(zip((f"{what}_from", f"{what}_before"), day, strict=True)),
                )
                read = rows_read(connection, Listing(chosen, order, 51))
                assert read <= 3_000, (order, what, read)
