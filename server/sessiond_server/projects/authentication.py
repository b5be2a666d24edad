"""Authentication: finds the project and the rights of an API key."""

import asyncio
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog

from sessiond_server.core.errors import Fault
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.core.interruption import Interruptible
from sessiond_server.core.work import begin_work
from sessiond_server.db.pool import (
    Contention,
    DatabaseUnavailable,
    PoolExhausted,
    StatementCanceled,
)
from sessiond_server.projects.store import KeyRow
from sessiond_server.quotas.limits import NO_LIMITS, ProjectLimits

# A key has the form sk-sessiond-ID-SECRET: scanners for leaked secrets can recognise it, and logs
# may show the ID.
_KEY = re.compile(r"sk-sessiond-([0-9a-z]{16})-([0-9A-Za-z_-]{43})")
# Known and unknown ids are cached separately, so that made-up keys cannot evict real ones.
MAX_CACHED_KEYS = 10_000
MAX_CACHED_MISSES = 1_000
# Maximum number of connections that lookups of keys use, however many unknown keys arrive.
MAX_LOOKUPS = 4
# Minimum pause between checks of the keys of open streams, which applies even if keys are not
# cached.
MIN_CHECK_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        project_id: the project that the request belongs to.
        is_admin: whether the caller may use AdminService.
        key_id: id of the API key; None for a caller without a key.
    """

    project_id: UUID
    is_admin: bool
    key_id: str | None


# If the server requires no keys, anyone who can reach it (by default only over loopback) is an
# operator.
ANONYMOUS = Caller(DEFAULT_PROJECT_ID, is_admin=True, key_id=None)


class KeyLookup(Protocol):
    """Finds API keys, and the limits of projects."""

    async def key(self, key_id: str) -> KeyRow | None:
        """Return the key with an id; None if there is none."""

    async def limits(self, project_id: UUID) -> ProjectLimits:
        """Return the limits that were set for a project."""


class LimitsListener(Protocol):
    """Receives the limits of projects whenever they have been read."""

    def set_limits(self, project_id: UUID, own: ProjectLimits) -> None:
        """Apply the limits of a project."""


class Authenticator:
    """Finds the callers that API keys belong to.

    Keys are cached for a while, so a revoked key keeps working for up to that time. The limits of
    projects are read with the keys, so changed limits take effect within the same time.
    """

    def __init__(
        self,
        store: KeyLookup,
        quotas: LimitsListener,
        *,
        require_keys: bool,
        cache_s: float,
    ) -> None:
        """Create an authenticator with an empty cache.

        Args:
            store: looks keys up.
            quotas: receives the limits of the projects that keys belong to.
            require_keys: whether to refuse requests without a key. A key that is sent is always
                checked.
            cache_s: how long the result of a lookup is cached. Unit: seconds.
        """
        self._store = store
        self._quotas = quotas
        self._require_keys = require_keys
        self._cache_s = cache_s
        self._keys: OrderedDict[str, tuple[float, KeyRow | None]] = OrderedDict()
        self._misses: OrderedDict[str, tuple[float, KeyRow | None]] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[KeyRow | None]] = {}
        self._free_lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self._streams: dict[Interruptible, str] = {}
        if not require_keys:
            # The defaults apply until the limits of callers without a key have been read.
            quotas.set_limits(DEFAULT_PROJECT_ID, NO_LIMITS)

    def knows(self, authorization: str | None) -> bool:
        """Return whether the cache has the caller's key; see `caller`."""
        if not authorization:
            return not self._require_keys
        key_id, secret = _parts(authorization)
        cached = self._keys.get(key_id)
        if cached is None or cached[1] is None or time.monotonic() >= cached[0]:
            return False
        return hmac.compare_digest(cached[1].secret_hash, hash_secret(secret))

    async def caller(self, authorization: str | None) -> Caller:
        """Return the caller of a request.

        Args:
            authorization: the `authorization` header; None if there is none.

        Raises:
            Fault: API_KEY_MISSING if the server requires a key; API_KEY_INVALID if the key is
                malformed, unknown or revoked.
        """
        if not authorization:
            if self._require_keys:
                raise Fault(
                    "API_KEY_MISSING",
                    "this server requires a key: send `authorization: Bearer KEY`",
                )
            return ANONYMOUS
        key_id, secret = _parts(authorization)
        row = await self._key(key_id) if key_id else None
        if row is None or not hmac.compare_digest(row.secret_hash, hash_secret(secret)):
            raise _invalid_key()
        return Caller(row.project_id, row.is_admin, row.key_id)

    @contextmanager
    def open_stream(self, caller: Caller, stream: Interruptible) -> Iterator[None]:
        """Interrupt a streaming call with API_KEY_INVALID if the key is revoked during the block.

        Args:
            caller: the caller.
            stream: the call, which lasts as long as the block.
        """
        if caller.key_id is not None:
            self._streams[stream] = caller.key_id
        try:
            yield
        finally:
            self._streams.pop(stream, None)

    async def run(self) -> None:
        """End the open streams of revoked keys, and read changed limits, until cancelled.

        The interval is the time for which keys are cached.
        """
        while True:
            try:
                await self.read_limits()
                await self.check_streams()
            except (DatabaseUnavailable, PoolExhausted, Contention, StatementCanceled) as e:
                log.warning("key_check_retrying", error=str(e))
            await asyncio.sleep(max(self._cache_s, MIN_CHECK_S))

    async def read_limits(self) -> None:
        """Read the limits of callers without a key, because no lookup of a key returns them."""
        if not self._require_keys:
            limits = await self._store.limits(DEFAULT_PROJECT_ID)
            self._quotas.set_limits(DEFAULT_PROJECT_ID, limits)

    async def check_streams(self) -> None:
        """Look up the keys of all open streams, and end the streams whose keys are revoked."""
        for key_id in set(self._streams.values()):
            if await self._shared_lookup(key_id) is None:
                for stream in [s for s, of_key in self._streams.items() if of_key == key_id]:
                    stream.interrupt(_invalid_key())

    async def _key(self, key_id: str) -> KeyRow | None:
        """Return a key, from the cache if possible; None if it is unknown or revoked."""
        now = time.monotonic()
        for cache in (self._keys, self._misses):
            if (known := cache.get(key_id)) and now < known[0]:
                cache.move_to_end(key_id)
                return known[1]
        return await self._shared_lookup(key_id)

    async def _shared_lookup(self, key_id: str) -> KeyRow | None:
        """Look up a key, once for concurrent requests; None if it is unknown or revoked."""
        lookup = self._lookups.get(key_id)
        if lookup is None:
            lookup = self._lookups[key_id] = asyncio.create_task(self._look_up(key_id))
            lookup.add_done_callback(lambda _: self._lookups.pop(key_id))
        return await asyncio.shield(lookup)

    async def _look_up(self, key_id: str) -> KeyRow | None:
        begin_work("key_lookup")
        async with self._free_lookups:
            row = await self._store.key(key_id)
        if row and row.revoked_at is not None:
            row = None
        if row:
            self._quotas.set_limits(row.project_id, row.limits)
        cache, most = (self._keys, MAX_CACHED_KEYS) if row else (self._misses, MAX_CACHED_MISSES)
        self._keys.pop(key_id, None)
        cache[key_id] = (time.monotonic() + self._cache_s, row)
        if len(cache) > most:
            cache.popitem(last=False)
        return row


def _parts(authorization: str) -> tuple[str, str]:
    """Return the id of a key and the whole key; the id is "" if the header has no key."""
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip()
    match = _KEY.fullmatch(secret) if scheme.lower() == "bearer" else None
    return match[1] if match else "", secret


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a key, which the database stores."""
    # A fast hash is enough, since 256 random bits cannot be guessed.
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _invalid_key() -> Fault:
    return Fault(
        "API_KEY_INVALID",
        "the key is unknown, malformed or revoked; send `authorization: Bearer KEY`",
    )
