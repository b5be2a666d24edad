import re

import psycopg

from sessiond_server.service.names import DEFAULT_PROJECT_ID
from sessiond_server.store.append_many import STATEMENTS


async def test_plan(database_url) -> None:
    with psycopg.connect(database_url, autocommit=True) as c:
        for n in (0, 200, 20000):
            c.execute(
                "INSERT INTO sessions (key, project_id, session_id, log, state, created_at, active_at, used_at)"
                " SELECT gen_random_uuid(), %s, i::text, gen_random_uuid(), 1, now(), now(), now() FROM generate_series(1, %s) AS i ON CONFLICT DO NOTHING",
                [DEFAULT_PROJECT_ID, n],
            )
            if n:
                c.execute("ANALYZE sessions")
            names = []

            def sub(m):
                if m[1] not in names:
                    names.append(m[1])
                return f"${names.index(m[1]) + 1}"

            text = re.sub(r"%\((\w+)\)[sb]", sub, STATEMENTS[True])
            types = ", ".join("uuid" if x == "project_id" else "unknown" if x != "limit" else "bigint" for x in names)
            c.execute("SET plan_cache_mode = force_generic_plan")
            c.execute(f"PREPARE p ({types}) AS {text}")
            args = ", ".join("NULL" for _ in names)
            print("\n".join(r[0] for r in c.execute(f"EXPLAIN EXECUTE p ({args})").fetchall()))
            c.execute("DEALLOCATE p")
