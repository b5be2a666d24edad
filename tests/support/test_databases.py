"""Databases of tests are made and dropped, even if earlier tests have left running statements."""

from contextlib import closing

import psycopg

from .databases import Databases, url_of
from .waiting import until


def test_a_result_that_nobody_reads_delays_no_later_database(
    postgres: str, databases: Databases
) -> None:
    older, name = databases.create(), databases.create()
    with (
        closing(psycopg.connect(url_of(postgres, name))) as left,
        psycopg.connect(postgres, autocommit=True) as watching,
    ):
        left.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 1000)")
        left.pgconn.flush()
        waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        until(
            lambda: watching.execute(waits, [left.info.backend_pid]).fetchone() == ("ClientWrite",),
            "the result waits for its reader",
        )
        databases.leave(older)
        databases.leave(name)
        # The second create drops the older database, which the running statement does not use.
        databases.leave(databases.create())
        databases.leave(databases.create())
