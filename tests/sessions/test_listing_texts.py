"""The text of a listing's statement is compiled once for each combination of conditions."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from sessiond_server.sessions.store.filters import SessionFilter
from sessiond_server.sessions.store.listing import Listing, list_statement, list_text
from sessiond_server.sessions.store.sessions import COLUMNS

PROJECTS = [uuid4(), uuid4()]
# Two values of each condition.
VALUES: dict[str, tuple[Any, Any]] = {
    "session_id_prefix": ("a", "b%"),
    "user_name": ("ada", "bob"),
    "status": (1, 2),
    "model": ("m", "n"),
    "config_contains": ({"a": 1}, {}),
    "metadata_contains": ({"b": 1}, {"c": None}),
    "created_from": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
    "created_before": (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
    "active_from": (datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)),
    "active_before": (datetime(2026, 7, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)),
}
NOW = datetime(2026, 11, 1, tzinfo=UTC)
AFTER: dict[str, list[tuple[Any, ...] | None]] = {
    "active_desc": [None, (5, NOW, UUID(int=1)), (6, None, UUID(int=2))],
    "active_asc": [None, (0, NOW, UUID(int=3))],
    "created_desc": [None, (NOW, UUID(int=4))],
    "created_asc": [None, (NOW, UUID(int=5))],
    "id_asc": [None, ("x",)],
}


def comparable(values: Any) -> dict[str, Any]:
    return {name: v.obj if isinstance(v, Jsonb) else v for name, v in values.items()}


@pytest.mark.parametrize("order", list(AFTER))
def test_texts_and_values_are_those_of_a_new_statement(order: str) -> None:
    pairs = zip(VALUES, [*list(VALUES)[3:], *list(VALUES)[:3]], strict=True)
    for names in ((), *((name,) for name in VALUES), *pairs, tuple(VALUES)):
        for after in AFTER[order]:
            texts = set()
            for number in (0, 1):
                chosen = {name: VALUES[name][number] for name in names}
                project = SessionFilter(PROJECTS[number], **chosen)
                listing = Listing(project, order, 5 + number, after)
                text, values = list_text(listing, COLUMNS)
                texts.add(text)
                compiled = list_statement(listing, COLUMNS).compile(dialect=PGDialect_psycopg())
                assert text == str(compiled)
                expected = comparable(compiled.params)
                assert expected == {name: comparable(values)[name] for name in expected}
            assert len(texts) == 1
