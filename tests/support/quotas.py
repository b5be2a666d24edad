"""Quotas of projects that have no limits."""

from collections.abc import Mapping
from uuid import UUID

from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.store import Usage


class _NoUsage:
    """A store that must not be called."""

    async def usage(self, project_id: UUID) -> Usage:
        raise AssertionError

    async def add_tokens(self, count_id: UUID, tokens: Mapping[UUID, int]) -> None:
        raise AssertionError

    async def forget_tokens(self) -> None:
        raise AssertionError


def unlimited() -> Quotas:
    """Return the quotas of a server without limits."""
    return Quotas(_NoUsage())
