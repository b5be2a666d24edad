"""The plans of the statements that Sends share."""

import re

import psycopg
import pytest

from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.turns.store.joined_starts import STARTS
from sessiond_server.turns.store.openings import OPENINGS

TYPES = {"limit": "bigint", "holder": "uuid", "lease_s": "double precision"}


def plan_of(connection: psycopg.Connection[tuple[str]], statement: str) -> list[str]:
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sb]", numbered, statement)
    types = ", ".join(TYPES.get(name, "unknown") for name in names)
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.execute(f"PREPARE p ({types}) AS {text}".encode())
    parameters = ", ".join(["NULL"] * len(names))
    plan = connection.execute(f"EXPLAIN EXECUTE p ({parameters})".encode()).fetchall()
    return [line for (line,) in plan]


@pytest.mark.parametrize("analysed", [0, 300, 5000])
@pytest.mark.parametrize(("statement", "reads"), [(OPENINGS, 1), (STARTS, 3)])
def test_sessions_and_turns_are_looked_up_by_key(
    database_url: str, statement: str, reads: int, analysed: int
) -> None:
    """The plan is the same for any number of sessions, and without statistics."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO sessions (key, project_id, session_id, log, state, created_at,"
            " active_at, used_at)"
            " SELECT gen_random_uuid(), %s, i::text, gen_random_uuid(), 1, now(), now(), now()"
            " FROM generate_series(1, %s) AS i",
            [DEFAULT_PROJECT_ID, analysed],
        )
        connection.execute(
            "INSERT INTO turns (key, log, turn_id, place, state, model, timeout_ms, created_at)"
            " SELECT key, log, gen_random_uuid(), 1, 3, 'm', 1000, now() FROM sessions"
        )
        if analysed:
            connection.execute("ANALYZE sessions, turns")
        plan = plan_of(connection, statement)
    keyed = sum("Index Scan using sessions_pkey on sessions" in line for line in plan)
    assert keyed == reads, "\n".join(plan)
    assert not any(re.search(r"Seq Scan on (sessions|turns|requests)", line) for line in plan)
    if statement == STARTS:
        assert any("turns_open_idx" in line for line in plan), "\n".join(plan)
