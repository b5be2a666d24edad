"""UpdateSession: masks, patches, etags."""

import asyncio

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    CopySessionRequest,
    DeleteSessionRequest,
    UpdateSessionRequest,
)

from ..support.wire import Wire, error_of


def update(wire: Wire, session: Session, *paths: str, **fields: object):  # type: ignore[no-untyped-def]
    request = UpdateSessionRequest(session=session)
    if paths:
        request.update_mask.CopyFrom(FieldMask(paths=paths))
    for name, value in fields.items():
        if name.endswith("_patch"):
            getattr(request, name).update(value)
        else:
            setattr(request, name, value)
    return wire.sessions.UpdateSession(request)


def struct(**values: object) -> Struct:
    made = Struct()
    made.update(values)
    return made


async def test_a_mask_names_what_changes(wire: Wire) -> None:
    before = await wire.create("one", model="a", user="u", title="t", metadata={"k": 1})
    after = await update(
        wire,
        Session(session_id="one", model="b", title="ignored", metadata=struct(n=2)),
        "model",
        "metadata",
    )
    assert (after.model, after.user, after.title) == ("b", "u", "t")
    assert dict(after.metadata) == {"n": 2}
    assert after.etag != before.etag
    assert after == await wire.get("one")


async def test_a_named_field_that_is_unset_is_cleared(wire: Wire) -> None:
    await wire.create("one", title="t", metadata={"k": 1}, idle_ttl_s=3600)
    after = await update(wire, Session(session_id="one"), "title", "metadata", "idle_ttl")
    assert after.title == ""
    assert not after.HasField("metadata")
    assert after.never_expires


async def test_without_a_mask_the_set_fields_change(wire: Wire) -> None:
    await wire.create("one", model="a", title="t")
    after = await update(wire, Session(session_id="one", title="new"))
    assert (after.model, after.title) == ("a", "new")


async def test_merge_patches_follow_rfc_7396(wire: Wire) -> None:
    await wire.create(
        "one",
        metadata={"keep": 1, "drop": 2, "deep": {"a": 1, "b": {"c": 1}}, "list": [1, 2]},
        config={"x": 1},
    )
    after = await update(
        wire,
        Session(session_id="one"),
        metadata_patch={
            "drop": None,
            "missing": None,
            "new": {"n": None, "m": 1},
            "deep": {"b": {"c": None, "d": 2}},
            "list": [3],
        },
        config_patch={"x": {"y": 1}},
    )
    from sessiond_server.core.structs import to_dict

    assert to_dict(after.metadata, "") == {
        "keep": 1,
        "deep": {"a": 1, "b": {"d": 2}},
        "new": {"m": 1},
        "list": [3],
    }
    assert to_dict(after.config, "") == {"x": {"y": 1}}


async def test_concurrent_patches_all_take_effect(wire: Wire) -> None:
    await wire.create("one")
    await asyncio.gather(
        *(update(wire, Session(session_id="one"), metadata_patch={f"k{i}": i}) for i in range(30))
    )
    assert len((await wire.get("one")).metadata) == 30


async def test_an_etag_guards_against_others(wire: Wire) -> None:
    created = await wire.create("one")
    first = await update(wire, Session(session_id="one", title="mine"), etag=created.etag)
    error = await error_of(
        update(wire, Session(session_id="one", title="theirs"), etag=created.etag)
    )
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert error.metadata["etag"] == first.etag
    assert (await wire.get("one")).title == "mine"


async def test_appends_do_not_change_the_etag(wire: Wire) -> None:
    created = await wire.create("one")
    await wire.store("one", "x")
    assert (await wire.get("one")).etag == created.etag


async def test_a_repeated_update_is_one(wire: Wire) -> None:
    created = await wire.create("one")
    first = await update(
        wire, Session(session_id="one", title="t"), etag=created.etag, request_id="r"
    )
    again = await update(
        wire, Session(session_id="one", title="t"), etag=created.etag, request_id="r"
    )
    assert again == first
    error = await error_of(
        update(wire, Session(session_id="one", title="other"), etag=created.etag, request_id="r")
    )
    assert error.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("session", "paths", "fields", "field"),
    [
        (Session(session_id="one"), ["last_seq"], {}, "update_mask"),
        (Session(session_id="one"), ["*"], {}, "update_mask"),
        (Session(session_id="one"), [], {}, "update_mask"),
        (Session(session_id="one", title="x" * 600), ["title"], {}, "session.title"),
        (
            Session(session_id="one", metadata=struct(a=1)),
            ["metadata"],
            {"metadata_patch": {"b": 1}},
            "metadata_patch",
        ),
        (Session(session_id="one"), ["title"], {"etag": "rubbish"}, "etag"),
        (Session(session_id="one"), ["title"], {"request_id": "x" * 200}, "request_id"),
        (Session(session_id=""), ["title"], {}, "session.session_id"),
        (
            Session(session_id="one", metadata=struct(a="x" * 70_000)),
            ["metadata"],
            {},
            "session.metadata",
        ),
        (Session(session_id="one"), [], {"metadata_patch": {"a": "\0"}}, "metadata_patch.a"),
        (
            Session(session_id="one", never_expires=False),
            ["never_expires"],
            {},
            "session.never_expires",
        ),
    ],
)
async def test_wrong_requests_name_the_field(
    wire: Wire, session: Session, paths: list[str], fields: dict[str, object], field: str
) -> None:
    before = await wire.create("one")
    error = await error_of(update(wire, session, *paths, **fields))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert list(error.fields) == [field]
    assert await wire.get("one") == before


async def test_patches_cannot_grow_beyond_the_limit(wire: Wire) -> None:
    await wire.create("one", metadata={"a": "x" * 40_000})
    error = await error_of(
        update(wire, Session(session_id="one"), metadata_patch={"b": "x" * 40_000})
    )
    assert list(error.fields) == ["metadata_patch"]
    assert len((await wire.get("one")).metadata) == 1


async def test_json_too_deep_for_a_response_is_refused(wire: Wire) -> None:
    """A patch can carry 34 levels, but the response of a listing cannot."""
    await wire.create("one", metadata={"a": 1})
    deep = Struct()
    level = deep
    for _ in range(33):
        level = level.fields["x"].struct_value
    level.SetInParent()
    request = UpdateSessionRequest(session=Session(session_id="one"), metadata_patch=deep)
    error = await error_of(wire.sessions.UpdateSession(request))
    assert error.reason == "INVALID_FIELD"
    assert "nested deeper than 30 levels" in error.text
    error = await error_of(
        wire.sessions.CopySession(CopySessionRequest(session_id="one", config=deep))
    )
    assert error.reason == "INVALID_FIELD"
    assert len(await wire.list()) == 1


@pytest.mark.parametrize(
    "etag",
    [
        "0" * 32 + "--9999999999999999",
        "0" * 32 + "-99999999999999999999",
        "0" * 32 + "-",
        "x-1",
        "-",
    ],
)
async def test_malformed_etags_are_refused(wire: Wire, etag: str) -> None:
    await wire.create("one")
    for call in (
        wire.sessions.UpdateSession(
            UpdateSessionRequest(session=Session(session_id="one", title="x"), etag=etag)
        ),
        wire.sessions.DeleteSession(DeleteSessionRequest(session_id="one", etag=etag)),
    ):
        assert (await error_of(call)).reason in ("INVALID_FIELD", "ETAG_MISMATCH")
