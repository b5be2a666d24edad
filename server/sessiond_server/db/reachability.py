"""Finds out whether the database is away, or the pool only has no free connection."""

import asyncio
import time

import psycopg
import structlog
from psycopg import AsyncConnection

from sessiond_server.db.connections import check_writable, closing

# Time for which the result of a probe is used.
MAX_AGE_S = 1.0
CONNECT_TIMEOUT_S = 2

log = structlog.get_logger(__name__)


class Reachability:
    """Probes a database with a connection of its own. Callers share one probe at a time."""

    def __init__(self, conninfo: str, *, needs_writable: bool) -> None:
        """Create it without probing.

        Args:
            conninfo: where to connect.
            needs_writable: whether a database that cannot be written to counts as away.
        """
        self._conninfo = conninfo
        self._needs_writable = needs_writable
        self._probe: asyncio.Task[bool] | None = None
        self._probed_at = 0.0

    async def close(self) -> None:
        """Wait until the running probe, if there is one, has ended."""
        if self._probe:
            await asyncio.wait([self._probe])

    async def is_away(self) -> bool:
        """Return whether a probe of the last MAX_AGE_S seconds could not connect."""
        probe = self._probe
        if probe is None or (probe.done() and time.monotonic() - self._probed_at > MAX_AGE_S):
            probe = self._probe = asyncio.create_task(self._cannot_connect())
        return await asyncio.shield(probe)

    async def _cannot_connect(self) -> bool:
        try:
            connection = await AsyncConnection.connect(
                self._conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
            )
            async with closing(connection):
                if self._needs_writable:
                    await check_writable(connection)
        except psycopg.Error as e:
            log.debug("database_unavailable", error=str(e))
            return True
        finally:
            self._probed_at = time.monotonic()
        return False
