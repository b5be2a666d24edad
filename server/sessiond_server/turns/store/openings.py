"""Reads the data of sessions that Sends need, with one statement for many Sends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sessiond_server.db.expiry import ALIVE
from sessiond_server.db.pool import Database
from sessiond_server.db.prepared import (
    BOOL,
    BYTEA,
    INT8,
    INT8_ARRAY,
    JSONB,
    TEXT,
    TEXT_ARRAY,
    UUID_KEY,
    UUID_KEY_ARRAY,
    PreparedStatement,
)
from sessiond_server.messages.store.history import HEAD_COLUMNS, HEAD_SOURCE, LogHead, head_of

# For the LIMIT and the comparison of projects, see messages/store/joined_statements.py.
OPENINGS = f"""
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(%(keys)b::uuid[], %(projects)b::uuid[], %(request_ids)b::text[])
        WITH ORDINALITY AS a (a_key, a_project, a_request_id, place)
    LIMIT %(limit)s
)
SELECT place, {HEAD_COLUMNS}, state, revision, model, config, r_hash, r_result
FROM asked JOIN {HEAD_SOURCE} ON key = a_key AND uuid_eq(project_id, a_project) AND {ALIVE}
LEFT JOIN LATERAL (
    SELECT content_hash AS r_hash, requests.session_id AS r_result FROM requests
    WHERE requests.key = sessions.key AND requests.log = sessions.log
        AND requests.request_id = a_request_id
    LIMIT 1
) AS recorded ON true"""

_OPENINGS = PreparedStatement(
    "turns.joined.openings",
    OPENINGS,
    {
        **dict.fromkeys(("keys", "projects"), UUID_KEY_ARRAY),
        "request_ids": TEXT_ARRAY,
        "limit": INT8,
    },
    (
        *(INT8, UUID_KEY, UUID_KEY, INT8, INT8, INT8, INT8, BOOL, BOOL, INT8),
        *(UUID_KEY_ARRAY, UUID_KEY_ARRAY, INT8_ARRAY, UUID_KEY),
        *(INT8, INT8, TEXT, JSONB, BYTEA, TEXT),
    ),
)


@dataclass(frozen=True, slots=True)
class Opening:
    """The data of a session that a Send needs.

    Attributes:
        head: location and size of the messages.
        state: the session's SessionStatus.
        revision: grows with each change of the session's settings.
        model: the session's model; "" = none.
        config: the session's config.
        first: content hash and turn_id of the first Send with the same request_id; None = no
            earlier Send had it.
    """

    head: LogHead
    state: int
    revision: int
    model: str
    config: dict[str, Any]
    first: tuple[bytes, str] | None


class OpeningStore:
    """Runs the statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, asked: Sequence[tuple[UUID, UUID, str]]) -> list[Opening | None]:
        """Return the data for Sends, in their order.

        Args:
            asked: for each Send, the session's key, the caller's project, and the request_id; "" =
                none.

        Returns:
            For each Send, the data; None if the project has no such session.
        """
        keys, projects, request_ids = zip(*asked, strict=True)
        parameters = {"keys": keys, "projects": projects, "request_ids": request_ids}
        async with self._database.connection() as connection:
            found = await _OPENINGS.run(connection, parameters | {"limit": len(asked)})
        openings: list[Opening | None] = [None] * len(asked)
        for place, *head, state, revision, model, config, content_hash, result in found:
            openings[place - 1] = Opening(
                head_of(keys[place - 1], head),
                state,
                revision,
                model,
                config,
                None if content_hash is None else (content_hash, result),
            )
        return openings
