"""QUOTA_EXCEEDED: sessions and bytes, in every call that creates them."""

import asyncio
import hashlib

import grpc

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.asset_service_pb2 import Asset, UploadAssetRequest
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import Session
from sessiond_server.server import serving
from sessiond_server.settings import Settings

from ..support.metrics import here
from ..support.wire import Wire, WireError, error_of, openai
from .conftest import Clock, SetLimits, with_key


async def used_bytes(tenant: Wire) -> int:
    return sum(session.content_bytes for session in await tenant.list())


def is_quota(error: object, what: str, limit: int, used: int) -> bool:
    assert isinstance(error, WireError), error
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    facts = {"what": what, "limit": str(limit), "used": str(used)}
    assert error.metadata.items() >= facts.items()
    assert error.retry_s is None
    return True


async def test_no_call_makes_a_session_above_the_limit(
    wire: Wire, tenant: Wire, set_limits: SetLimits
) -> None:
    await set_limits(max_sessions=2)
    await tenant.create("a")
    await tenant.store("a", "x")
    await tenant.store("b", "x", create=ss.StoreMessagesRequest().create)
    refused = [
        await error_of(tenant.create("c")),
        await error_of(tenant.store("c", "x", create=ss.StoreMessagesRequest().create)),
        *await tenant.store_batch(
            ss.StoreMessagesRequest(
                session_id="c",
                messages=[openai("x")],
                create=ss.StoreMessagesRequest().create,
            )
        ),
        await error_of(tenant.copy("a", "c")),
        await error_of(
            tenant.sessions.ImportSession(
                iter([ss.ImportSessionRequest(session=Session(session_id="c"))])
            )
        ),
    ]
    assert all(is_quota(error, "max_sessions", 2, 2) for error in refused)
    assert {session.session_id for session in await tenant.list()} == {"a", "b"}
    await wire.create("of another project")


async def test_a_deleted_session_makes_room_at_once(tenant: Wire, set_limits: SetLimits) -> None:
    await set_limits(max_sessions=1)
    await tenant.create("a")
    assert is_quota(await error_of(tenant.create("b")), "max_sessions", 1, 1)
    await tenant.delete("a")
    await tenant.create("b")


async def test_a_rewind_makes_room_at_once(tenant: Wire, set_limits: SetLimits) -> None:
    await tenant.create("a")
    await tenant.store("a", "x", "y" * 500)
    used = await used_bytes(tenant)
    await set_limits(max_bytes=used)
    assert is_quota(await error_of(tenant.store("a", "z")), "max_bytes", used, used)
    await tenant.rewind("a", to_seq=1)
    await tenant.store("a", "z")


async def test_at_the_limit_existing_sessions_and_repetitions_are_answered(
    tenant: Wire, set_limits: SetLimits
) -> None:
    await set_limits(max_sessions=1)
    made = await tenant.create("a", request_id="r")
    assert await tenant.create("a", request_id="r") == made
    assert (await tenant.create("a", get_or_create=True)).session_id == "a"
    assert (await error_of(tenant.create("a"))).reason == "SESSION_ALREADY_EXISTS"
    await tenant.store("a", "x", create=ss.StoreMessagesRequest().create)


async def test_no_call_stores_bytes_above_the_limit(
    tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    await tenant.create("a")
    await tenant.store("a", "x" * 500)
    used = await used_bytes(tenant)
    limit = used + 100
    await set_limits(max_bytes=limit)
    large = openai("y" * 200)
    imported = ss.ImportSessionRequest(session=Session(session_id="c"), messages=[large])
    refused = [
        await error_of(tenant.store("a", large)),
        *await tenant.store_batch(ss.StoreMessagesRequest(session_id="a", messages=[large])),
        await error_of(tenant.import_("a", [[large]])),
        await error_of(tenant.sessions.ImportSession(iter([imported]))),
        await error_of(tenant.rewind("a", "y" * 200, to_seq=1)),
        await error_of(tenant.copy("a", "c")),
        await error_of(tenant.assets.UploadAsset(iter([UploadAssetRequest(data=b"z" * 200)]))),
        await error_of(
            tenant.assets.UploadAsset(iter([UploadAssetRequest(data=b"z" * 200, size=200)]))
        ),
    ]
    assert all(is_quota(error, "max_bytes", limit, used) for error in refused)
    assert await used_bytes(tenant) == used
    await tenant.store("a", "z")
    left = limit - await used_bytes(tenant)
    await tenant.assets.UploadAsset(iter([UploadAssetRequest(data=b"z" * left)]))
    assert is_quota(await error_of(tenant.store("a", "z")), "max_bytes", limit, limit)


async def test_at_the_limit_repeated_appends_and_uploads_are_answered(
    tenant: Wire, set_limits: SetLimits
) -> None:
    await tenant.create("a")
    named = Message(message_id="m")
    named.MergeFrom(openai("x"))
    stored = await tenant.store("a", named, request_id="r")
    asset = await tenant.assets.UploadAsset(iter([UploadAssetRequest(data=b"z")]))
    await set_limits(max_bytes=1)
    assert await tenant.store("a", named, request_id="r") == stored
    [of_batch] = await tenant.store_batch(
        ss.StoreMessagesRequest(session_id="a", messages=[named], request_id="r")
    )
    assert of_batch == stored
    skipped = await tenant.store("a", named, on_duplicate=ss.ON_DUPLICATE_SKIP)
    assert skipped.skipped_count == 1
    digest = hashlib.sha256(b"z").hexdigest()
    again = UploadAssetRequest(data=b"z", asset_id=digest, size=1)
    assert (await tenant.assets.UploadAsset(iter([again]))).asset_id == asset.asset_id


async def test_concurrent_creations_do_not_go_beyond_the_limit(
    tenant: Wire, set_limits: SetLimits, clock: Clock
) -> None:
    await set_limits(max_sessions=5)
    outcomes = await asyncio.gather(
        *(tenant.create(f"s{i}") for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Session) for outcome in outcomes) == 5
    clock.now += 10
    assert len(await tenant.list()) == 5


async def test_a_copy_of_a_part_counts_at_once(tenant: Wire, set_limits: SetLimits) -> None:
    await tenant.create("a")
    await tenant.store("a", "x" * 500, "y")
    used = await used_bytes(tenant)
    await set_limits(max_bytes=used + 300)
    await tenant.copy("a", "b", up_to_seq=1)
    used = await used_bytes(tenant)
    refused = await error_of(tenant.copy("a", "c", up_to_seq=1))
    assert refused.reason == "QUOTA_EXCEEDED"
    assert refused.metadata["used"] == str(used)


async def test_concurrent_uploads_of_unknown_size_do_not_go_beyond_the_limit(
    tenant: Wire, set_limits: SetLimits
) -> None:
    await set_limits(max_bytes=100)
    uploads = (
        tenant.assets.UploadAsset(
            iter([UploadAssetRequest(data=name * 30), UploadAssetRequest(data=name * 30)])
        )
        for name in (b"a", b"b", b"c", b"d", b"e")
    )
    outcomes = await asyncio.gather(*uploads, return_exceptions=True)
    assert sum(isinstance(outcome, Asset) for outcome in outcomes) <= 1


async def test_sessions_of_other_servers_count_with_the_next_count(
    wire: Wire,
    tenant: Wire,
    key: str,
    settings: Settings,
    database_url: str,
    set_limits: SetLimits,
    clock: Clock,
) -> None:
    async with (
        serving(settings, database_url) as other,
        with_key(other.port, key) as channel,
    ):
        await set_limits(max_sessions=2)
        await tenant.create("a")
        elsewhere = Wire(channel)
        await elsewhere.create("b")
        clock.now += 10
        error = await error_of(tenant.create("c"))
        assert is_quota(error, "max_sessions", 2, 2)


async def test_without_limits_no_statement_is_run_for_them(wire: Wire) -> None:
    await wire.create("a")
    before = here()
    for text in "xyz":
        await wire.store("a", text)
    name = "sessiond_db_statement_seconds_count"
    after = here()
    grown = {
        statement: after.value(name, statement=statement) - before.value(name, statement=statement)
        for statement in after.labels(name, "statement")
    }
    # A background task regularly reads the limits of callers without a key.
    ran = {statement: count for statement, count in grown.items() if count}
    assert ran.pop("messages.append.append") == 3
    assert not any(statement.startswith(("quotas", "messages", "sessions")) for statement in ran)
