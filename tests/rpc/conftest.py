"""Locks of other programs."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.pq import TransactionStatus


@pytest.fixture
def blocker(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection whose transaction locks what the test says; it is rolled back at the end."""
    with psycopg.connect(database_url) as connection:
        yield connection
        if connection.info.transaction_status != TransactionStatus.IDLE:
            connection.rollback()
