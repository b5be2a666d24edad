"""Authenticator: the cache of API keys."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from sessiond_server.core.errors import Fault
from sessiond_server.core.ids import DEFAULT_PROJECT_ID
from sessiond_server.core.interruption import Interruptible
from sessiond_server.db.pool import DatabaseUnavailable
from sessiond_server.projects import authentication
from sessiond_server.projects.authentication import ANONYMOUS, Authenticator, Caller, hash_secret
from sessiond_server.projects.store import KeyRow
from sessiond_server.quotas.limits import NO_LIMITS, ProjectLimits

from ..support.quotas import unlimited

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY_ID = "0" * 16


def secret_of(key_id: str) -> str:
    return f"sk-sessiond-{key_id}-{'x' * 43}"


class Keys:
    """A store of keys that counts lookups. Lookups wait until `free` is set."""

    def __init__(self, *key_ids: str) -> None:
        self.rows = {
            key_id: KeyRow(
                key_id,
                DEFAULT_PROJECT_ID,
                "default",
                hash_secret(secret_of(key_id)),
                "",
                False,
                NOW,
                None,
            )
            for key_id in key_ids
        }
        self.looked_up: list[str] = []
        self.now_looking = self.most_looking = 0
        self.free = asyncio.Event()
        self.free.set()

    async def key(self, key_id: str) -> KeyRow | None:
        self.looked_up.append(key_id)
        self.now_looking += 1
        self.most_looking = max(self.most_looking, self.now_looking)
        try:
            await self.free.wait()
        finally:
            self.now_looking -= 1
        return self.rows.get(key_id)

    async def limits(self, project_id: UUID) -> ProjectLimits:
        return NO_LIMITS

    def revoke(self, key_id: str) -> None:
        row = self.rows[key_id]
        self.rows[key_id] = KeyRow(
            row.key_id,
            row.project_id,
            row.project,
            row.secret_hash,
            row.label,
            row.is_admin,
            row.created_at,
            NOW,
        )


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(authentication, "time", clock)
    return clock


async def caller(authenticator: Authenticator, key_id: str = KEY_ID) -> Caller:
    return await authenticator.caller(f"Bearer {secret_of(key_id)}")


async def refused(authenticator: Authenticator, key_id: str) -> None:
    with pytest.raises(Fault) as refusal:
        await caller(authenticator, key_id)
    assert refusal.value.reason == "API_KEY_INVALID"


async def test_made_up_keys_do_not_evict_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MAX_CACHED_KEYS", 2)
    monkeypatch.setattr(authentication, "MAX_CACHED_MISSES", 2)
    keys = Keys(KEY_ID)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    await caller(authenticator)
    for i in range(10):
        await refused(authenticator, f"{i:016x}"[::-1] if i else "f" * 16)
    keys.looked_up.clear()
    await caller(authenticator)
    assert keys.looked_up == []


async def test_the_least_recently_used_key_leaves_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(authentication, "MAX_CACHED_KEYS", 2)
    first, second, third = ids = ["1" * 16, "2" * 16, "3" * 16]
    keys = Keys(*ids)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    for key_id in (first, second, first, third, first, second):
        await caller(authenticator, key_id)
    assert keys.looked_up == [first, second, third, second]


async def test_unknown_keys_are_looked_up_once() -> None:
    keys = Keys()
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    for _ in range(3):
        await refused(authenticator, KEY_ID)
    assert keys.looked_up == [KEY_ID]


async def test_malformed_keys_are_not_looked_up() -> None:
    keys = Keys()
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    for header in ("Bearer", "Bearer x", "Basic " + secret_of(KEY_ID), "Bearer \ud800"):
        with pytest.raises(Fault):
            await authenticator.caller(header)
    assert keys.looked_up == []


async def test_requests_share_one_lookup_when_a_key_expires(clock: Clock) -> None:
    keys = Keys(KEY_ID)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    await caller(authenticator)
    clock.now += 61
    keys.free.clear()
    requests = [asyncio.create_task(caller(authenticator)) for _ in range(10)]
    await asyncio.sleep(0)
    # A cancelled request does not cancel the lookup.
    requests.pop(0).cancel()
    await asyncio.sleep(0)
    keys.free.set()
    assert {found.key_id for found in await asyncio.gather(*requests)} == {KEY_ID}
    assert keys.looked_up == [KEY_ID] * 2


async def test_a_flood_of_unknown_keys_occupies_few_connections() -> None:
    keys = Keys()
    keys.free.clear()
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    requests = [asyncio.create_task(refused(authenticator, f"{i:016}")) for i in range(50)]
    while keys.now_looking < authentication.MAX_LOOKUPS:
        await asyncio.sleep(0)
    keys.free.set()
    await asyncio.gather(*requests)
    assert keys.most_looking == authentication.MAX_LOOKUPS


async def test_a_failed_lookup_is_not_cached() -> None:
    class Broken(Keys):
        broken = True

        async def key(self, key_id: str) -> KeyRow | None:
            if self.broken:
                raise ConnectionError
            return await super().key(key_id)

    keys = Broken(KEY_ID)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    with pytest.raises(ConnectionError):
        await caller(authenticator)
    keys.broken = False
    assert (await caller(authenticator)).key_id == KEY_ID


async def stream(
    authenticator: Authenticator, who: Caller, opened: asyncio.Event, blocked: asyncio.Event
) -> None:
    """A streaming call that waits for `blocked`."""
    async with Interruptible() as call:
        with authenticator.open_stream(who, call):
            opened.set()
            await blocked.wait()


async def test_a_revoked_key_ends_its_open_streams_before_the_cache_expires() -> None:
    keys = Keys(KEY_ID)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    opened = asyncio.Event()
    call = asyncio.create_task(
        stream(authenticator, await caller(authenticator), opened, asyncio.Event())
    )
    await opened.wait()
    await authenticator.check_streams()
    assert not call.done()
    keys.revoke(KEY_ID)
    await authenticator.check_streams()
    with pytest.raises(Fault) as refusal:
        await call
    assert refusal.value.reason == "API_KEY_INVALID"
    await refused(authenticator, KEY_ID)


async def test_a_response_that_is_being_sent_is_sent_before_the_stream_ends() -> None:
    keys = Keys(KEY_ID)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=60)
    sending, free, sent = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def call() -> None:
        async with Interruptible() as opened:
            with authenticator.open_stream(await caller(authenticator), opened), opened.sending():
                sending.set()
                await free.wait()
                sent.set()

    task = asyncio.create_task(call())
    await sending.wait()
    keys.revoke(KEY_ID)
    for _ in range(3):
        await authenticator.check_streams()
    assert not task.done()
    free.set()
    with pytest.raises(Fault) as refusal:
        await task
    assert sent.is_set()
    assert refusal.value.reason == "API_KEY_INVALID"


async def test_a_timeout_within_a_stream_is_not_taken_for_a_revocation() -> None:
    with pytest.raises(TimeoutError):
        async with Interruptible(), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_database_that_is_away_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "MIN_CHECK_S", 0)
    failed = asyncio.Event()

    class Away(Keys):
        is_away = False

        async def key(self, key_id: str) -> KeyRow | None:
            if self.is_away:
                self.is_away = False
                failed.set()
                raise DatabaseUnavailable
            return await super().key(key_id)

    keys = Away(KEY_ID)
    authenticator = Authenticator(keys, unlimited(), require_keys=True, cache_s=0)
    opened = asyncio.Event()
    call = asyncio.create_task(
        stream(authenticator, await caller(authenticator), opened, asyncio.Event())
    )
    await opened.wait()
    keys.is_away = True
    checks = asyncio.create_task(authenticator.run())
    await failed.wait()
    assert not call.done()
    keys.revoke(KEY_ID)
    with pytest.raises(Fault):
        await call
    checks.cancel()


async def test_a_stream_without_a_key_is_not_looked_up() -> None:
    keys = Keys()
    authenticator = Authenticator(keys, unlimited(), require_keys=False, cache_s=0)
    assert await authenticator.caller(None) == ANONYMOUS
    async with Interruptible() as call:
        with authenticator.open_stream(ANONYMOUS, call):
            await authenticator.check_streams()
    assert keys.looked_up == []
