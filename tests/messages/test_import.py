"""ImportMessages: any length, one append."""

from collections.abc import Callable

import grpc

from sessiond.v1.session_service_pb2 import ImportMessagesRequest

from ..support.wire import Wire, error_of, openai


async def test_pieces_are_one_append(
    wire: Wire, query: Callable[..., list[tuple[object, ...]]]
) -> None:
    await wire.create("one")
    await wire.store("one", "before")
    sent = [openai(f"{i} " + "é" * (i % 50)) for i in range(25_000)]
    # About 10 MB: more than the spool keeps in memory.
    sent[100:120] = [openai("x" * 500_000) for _ in range(20)]
    answer = await wire.import_("one", [sent[i : i + 700] for i in range(0, len(sent), 700)])
    assert (answer.first_seq, answer.last_seq) == (2, 25_001)
    got = await wire.read("one", after_seq=1)
    assert [m.json for m in got] == [m.json for m in sent]
    assert {m.create_time.ToNanoseconds() for m in got} == {answer.create_time.ToNanoseconds()}
    session = await wire.get("one")
    assert session.content_bytes == sum(m.content_bytes for m in await wire.read("one"))
    assert (await wire.store("one", "after")).first_seq == 25_002


async def test_a_fault_in_a_late_piece_stores_nothing(wire: Wire) -> None:
    await wire.create("one")
    error = await error_of(
        wire.import_("one", [[openai("a")] * 10, [openai("b"), openai("c", "robot")]])
    )
    assert error.reason == "UNKNOWN_ROLE"
    assert list(error.fields) == ["messages[11].json.role"]
    assert (await wire.get("one")).last_seq == 0


async def test_an_import_that_is_cut_stores_nothing(wire: Wire) -> None:
    await wire.create("one")
    call = wire.sessions.ImportMessages()
    await call.write(ImportMessagesRequest(session_id="one", messages=[openai("a")] * 100))
    call.cancel()
    assert (await wire.get("one")).last_seq == 0
    assert (await wire.store("one", "b")).first_seq == 1


async def test_conditions_and_repetitions_are_those_of_store(wire: Wire) -> None:
    await wire.create("one")
    first = await wire.import_(
        "one", [[openai("a")], [openai("b")]], request_id="r", expected_last_seq=0
    )
    again = await wire.import_(
        "one", [[openai("a"), openai("b")]], request_id="r", expected_last_seq=0
    )
    assert first == again
    assert (
        await error_of(wire.import_("one", [[openai("c")]], request_id="r"))
    ).reason == "REQUEST_ID_REUSED"
    error = await error_of(wire.import_("one", [[openai("c")]], expected_last_seq=1))
    assert (error.code, error.metadata["last_seq"]) == (grpc.StatusCode.ABORTED, "2")


async def test_wrong_imports_name_the_field(wire: Wire) -> None:
    await wire.create("one")
    assert list((await error_of(wire.import_("one", []))).fields) == ["session_id"]
    assert list((await error_of(wire.import_("one", [[]]))).fields) == ["messages"]
    assert list((await error_of(wire.import_("", [[openai("a")]]))).fields) == ["session_id"]
    assert (await error_of(wire.import_("none", [[openai("a")]]))).reason == "SESSION_NOT_FOUND"

    async def two_sessions():  # type: ignore[no-untyped-def]
        yield ImportMessagesRequest(session_id="one", messages=[openai("a")])
        yield ImportMessagesRequest(session_id="two", messages=[openai("a")])

    assert list((await error_of(wire.sessions.ImportMessages(two_sessions()))).fields) == [
        "session_id"
    ]
    assert (await wire.get("one")).last_seq == 0


async def test_others_append_while_a_long_import_is_sent(wire: Wire) -> None:
    await wire.create("one")
    call = wire.sessions.ImportMessages()
    await call.write(ImportMessagesRequest(session_id="one", messages=[openai("import")] * 10))
    # The session is not locked while the client sends.
    assert (await wire.store("one", "meanwhile")).first_seq == 1
    await call.done_writing()
    assert (await call).first_seq == 2
