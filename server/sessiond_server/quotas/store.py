"""The limits and the usage of projects."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sessiond_server.db.idempotency import NO_LOG
from sessiond_server.db.pool import Database
from sessiond_server.quotas.limits import LIMIT_NAMES, NO_LIMITS, ProjectLimits

LIMIT_COLUMNS = ", ".join(LIMIT_NAMES)
"""The columns of project_limits that limits_of() takes from a row."""

NO_ETAG = "0"
"""The etag of limits that were never set."""


@dataclass(frozen=True, slots=True)
class LimitsRow:
    """The limits that were set for a project. They have no values if none were set."""

    limits: ProjectLimits
    etag: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of a project.

    Attributes:
        bytes: content of its sessions and assets.
        running_turns: turns that run or are queued.
        model_tokens: tokens of turns since midnight UTC.
    """

    sessions: int
    messages: int
    bytes: int
    running_turns: int
    model_tokens: int


_GET = f"SELECT {LIMIT_COLUMNS}, etag FROM project_limits WHERE project_id = %(project_id)s"
_ASSIGNMENTS = ", ".join(f"{name} = excluded.{name}" for name in LIMIT_NAMES)
_VALUES = ", ".join(f"%({name})s" for name in LIMIT_NAMES)
# With the etag of missing limits, only the insertion may happen. With any other etag, only the
# update may happen.
_SET = f"""
INSERT INTO project_limits AS l (project_id, {LIMIT_COLUMNS})
SELECT %(project_id)s, {_VALUES}
WHERE %(etag)s IN ('', '{NO_ETAG}') OR EXISTS (
    SELECT FROM project_limits WHERE project_id = %(project_id)s AND etag::text = %(etag)s)
ON CONFLICT (project_id) DO UPDATE SET {_ASSIGNMENTS}, etag = gen_random_uuid()
WHERE %(etag)s = '' OR l.etag::text = %(etag)s
RETURNING {LIMIT_COLUMNS}, etag"""
_USAGE = """
SELECT s.sessions, s.messages, s.bytes + a.bytes AS bytes, t.running_turns, d.model_tokens
FROM (
    SELECT count(*) AS sessions, coalesce(sum(last_seq), 0)::bigint AS messages,
        coalesce(sum(content_bytes), 0)::bigint AS bytes
    FROM sessions WHERE project_id = %(project_id)s
) s, (
    SELECT coalesce(sum(size), 0)::bigint AS bytes FROM assets WHERE project_id = %(project_id)s
) a, (
    SELECT count(*) AS running_turns FROM turns JOIN sessions USING (key, log)
    WHERE turns.state <= 2 AND project_id = %(project_id)s
) t, (
    SELECT coalesce(sum(tokens), 0)::bigint AS model_tokens FROM project_tokens
    WHERE project_id = %(project_id)s AND day = (clock_timestamp() AT TIME ZONE 'UTC')::date
) d"""
_ADD_TOKENS = """
WITH recorded AS (
    INSERT INTO requests (key, log, request_id, content_hash, created_at)
    VALUES (%(no_log)s, %(no_log)s, %(count_id)s, '', clock_timestamp())
    ON CONFLICT DO NOTHING RETURNING request_id
)
INSERT INTO project_tokens AS t (project_id, day, tokens)
SELECT project_id, (clock_timestamp() AT TIME ZONE 'UTC')::date, tokens
FROM unnest(%(projects)s::uuid[], %(tokens)s::bigint[]) AS added (project_id, tokens)
WHERE EXISTS (SELECT FROM recorded)
ORDER BY project_id
ON CONFLICT (project_id, day) DO UPDATE SET tokens = t.tokens + excluded.tokens"""
_FORGET_TOKENS = """
DELETE FROM project_tokens WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM project_tokens
    WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - 7
    FOR UPDATE SKIP LOCKED))"""


class QuotaStore:
    """Limits and usage by project."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def limits(self, project_id: UUID) -> LimitsRow:
        """Return the limits that were set for a project."""
        rows = await self._database.rows(_GET, {"project_id": project_id})
        return _row(rows[0]) if rows else LimitsRow(NO_LIMITS, NO_ETAG)

    async def set_limits(
        self, project_id: UUID, limits: ProjectLimits, etag: str
    ) -> LimitsRow | None:
        """Replace the limits of a project.

        Args:
            project_id: the project.
            limits: the new limits.
            etag: the etag that the limits must have; "" for any.

        Returns:
            The new limits; None if the etag is another one.
        """
        parameters = {"project_id": project_id, "etag": etag, **asdict(limits)}
        rows = await self._database.rows(_SET, parameters)
        return _row(rows[0]) if rows else None

    async def usage(self, project_id: UUID) -> Usage:
        """Count the usage of a project. This reads the rows of all of its sessions."""
        [row] = await self._database.rows(_USAGE, {"project_id": project_id})
        return Usage(**row)

    async def add_tokens(self, count_id: UUID, tokens: Mapping[UUID, int]) -> None:
        """Add tokens to today's counts, by project. All servers lock the rows in the same order.

        Args:
            count_id: identifies these tokens. If they were added already, nothing happens.
            tokens: the tokens.
        """
        projects = sorted(tokens)
        parameters = {
            "no_log": NO_LOG,
            "count_id": str(count_id),
            "projects": projects,
            "tokens": [tokens[one] for one in projects],
        }
        await self._database.rows(_ADD_TOKENS, parameters)

    async def forget_tokens(self) -> None:
        """Delete the counts of tokens that are more than a week old."""
        await self._database.rows(_FORGET_TOKENS)


def limits_of(row: dict[str, Any]) -> ProjectLimits:
    """Remove LIMIT_COLUMNS from a row, and return them."""
    return ProjectLimits(**{name: row.pop(name) for name in LIMIT_NAMES})


def _row(row: dict[str, Any]) -> LimitsRow:
    return LimitsRow(limits_of(row), str(row["etag"]))
