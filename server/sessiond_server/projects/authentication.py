"""Who calls: the project and the rights of an API key."""

import asyncio
import hashlib
import hmac
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sessiond_server.core.errors import Fault
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.projects.store import KeyRow

# A key reads sk-sessiond-ID-SECRET: scanners for leaked secrets recognise it, and logs may show ID.
_KEY = re.compile(r"sk-sessiond-([0-9a-z]{16})-([0-9A-Za-z_-]{43})")
# Valid and unknown ids are cached apart, so that made-up keys cannot evict the callers' own.
MAX_CACHED_KEYS = 10_000
MAX_CACHED_MISSES = 1_000
# Looking keys up takes at most so many database connections, however many unknown keys arrive.
MAX_LOOKUPS = 4


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        project_id: the project that the request belongs to.
        is_admin: whether the caller may use AdminService.
        key_id: the API key; None for a caller without one.
    """

    project_id: UUID
    is_admin: bool
    key_id: str | None


# If the server requires no keys, whoever reaches it (by default over loopback only) operates it.
ANONYMOUS = Caller(DEFAULT_PROJECT_ID, is_admin=True, key_id=None)


class KeyLookup(Protocol):
    """Finds API keys."""

    async def key(self, key_id: str) -> KeyRow | None:
        """Returns the key of an id; None if there is none."""


class Authenticator:
    """Finds the caller that an API key belongs to.

    Keys are cached for a while, so a revoked key works that much longer.
    """

    def __init__(self, store: KeyLookup, *, require_keys: bool, cache_s: float) -> None:
        """Creates an authenticator with an empty cache.

        Args:
            store: where keys are looked up.
            require_keys: refuse requests without a key. A key that is sent is checked either way.
            cache_s: how long the result of a lookup is used. Unit: seconds.
        """
        self._store = store
        self._require_keys = require_keys
        self._cache_s = cache_s
        self._keys: OrderedDict[str, tuple[float, KeyRow]] = OrderedDict()
        self._misses: OrderedDict[str, tuple[float, None]] = OrderedDict()
        self._lookups: dict[str, asyncio.Task[KeyRow | None]] = {}
        self._free_lookups = asyncio.Semaphore(MAX_LOOKUPS)

    async def caller(self, authorization: str | None) -> Caller:
        """Returns the caller of a request.

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
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip()
        match = _KEY.fullmatch(secret) if scheme.lower() == "bearer" else None
        row = await self._key(match[1]) if match else None
        if row is None or not hmac.compare_digest(row.secret_hash, hash_secret(secret)):
            raise _invalid_key()
        return Caller(row.project_id, row.is_admin, row.key_id)

    async def check_revoked(self, caller: Caller) -> None:
        """Checks that the key of an open stream is still valid. Cheap: it uses the same cache.

        Raises:
            Fault: API_KEY_INVALID if the key has been revoked.
        """
        if caller.key_id is not None and await self._key(caller.key_id) is None:
            raise _invalid_key()

    async def _key(self, key_id: str) -> KeyRow | None:
        """Returns a key that is not revoked, from the cache if possible."""
        now = time.monotonic()
        for cache in (self._keys, self._misses):
            if (known := cache.get(key_id)) and now < known[0]:
                cache.move_to_end(key_id)
                return known[1]
        # When an entry expires, all requests that need it share one lookup.
        lookup = self._lookups.get(key_id)
        if lookup is None:
            lookup = self._lookups[key_id] = asyncio.create_task(self._look_up(key_id))
            lookup.add_done_callback(lambda _: self._lookups.pop(key_id))
        return await asyncio.shield(lookup)

    async def _look_up(self, key_id: str) -> KeyRow | None:
        async with self._free_lookups:
            row = await self._store.key(key_id)
        expires_at = time.monotonic() + self._cache_s
        self._keys.pop(key_id, None)
        if row is None or row.revoked_at is not None:
            self._misses[key_id] = (expires_at, None)
            if len(self._misses) > MAX_CACHED_MISSES:
                self._misses.popitem(last=False)
            return None
        self._keys[key_id] = (expires_at, row)
        if len(self._keys) > MAX_CACHED_KEYS:
            self._keys.popitem(last=False)
        return row


def hash_secret(secret: str) -> bytes:
    """Returns the SHA-256 of a key, which is what the database stores."""
    # A fast hash is enough: nobody guesses 256 random bits.
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _invalid_key() -> Fault:
    return Fault(
        "API_KEY_INVALID",
        "the key is unknown, malformed or revoked; send `authorization: Bearer KEY`",
    )
