"""Messages of up to 16 MiB, and the advice in the errors of larger ones."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from sessiond import AsyncClient
from sessiond.v1.message_pb2 import ROLE_USER, Blob, Message, Part, Parts
from sessiond_server.formats.token_counts import Estimate
from sessiond_server.server import Running
from sessiond_server.settings import Settings

from ..support.wire import Wire, error_of, openai

# The content of a message whose JSON has exactly 16 MiB.
LARGEST = "x" * (2**24 - len(openai("").json))


async def test_the_largest_message_is_stored_read_watched_and_imported(server: Running) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session("one")
        await session.store_message({"role": "user", "content": LARGEST})
        await session.import_messages([{"role": "user", "content": LARGEST}] * 2)
        assert [message.content == LARGEST async for message in session.get_messages()] == [
            True
        ] * 3
        events = client.sessions.events("one", after_seq=0)
        watched = 0
        async for event in events:
            watched += event.seq is not None
            if watched == 3:
                break


async def test_a_batch_of_32_mib_is_stored(wire: Wire) -> None:
    await wire.create("one")
    assert (await wire.store("one", LARGEST, LARGEST)).last_seq == 2


async def test_errors_of_size_name_the_setting_and_the_way_that_works(wire: Wire) -> None:
    await wire.create("one")
    picture = Part(image=Blob(inline=bytes(2**24)))
    parts = Message(role=ROLE_USER, parts=Parts(parts=[picture]))
    for messages, setting in (
        ([openai(LARGEST + "x")], "max_message_bytes"),
        ([parts], "max_message_bytes"),
        ([openai(LARGEST)] * 3, "max_batch_bytes"),
    ):
        error = await error_of(wire.store("one", *messages))
        for words in (setting, "attachments", "assets", "UploadAsset"):
            assert words in error.text
    error = await error_of(wire.store("one", *["x"] * 1001))
    assert "max_batch_messages" in error.text
    assert "import_messages" in error.text


@pytest.mark.parametrize("imported", [False, True])
async def test_large_messages_are_counted_off_the_event_loop(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, imported: bool
) -> None:
    threads: list[threading.Thread] = []
    count = Estimate.count

    def recorded(self: Estimate, texts: Sequence[str]) -> int:
        threads.append(threading.current_thread())
        return count(self, texts)

    monkeypatch.setattr(Estimate, "count", recorded)
    await wire.create("one")

    async def store(text: str) -> Any:
        return await (
            wire.import_("one", [[openai(text)]]) if imported else wire.store("one", text)
        )

    await store("x")
    await store("x" * 2**21)
    small, large = threads
    assert small is threading.main_thread()
    assert large is not threading.main_thread()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"max_batch_bytes": 2**20}, "--max-message-bytes"),
        ({"max_message_bytes": 2**26}, "--max-batch-bytes"),
        ({"max_batch_bytes": 2**26}, "--max-request-bytes"),
        ({"max_request_bytes": 2**25}, "--max-batch-bytes"),
    ],
)
def test_sizes_that_exclude_each_other_are_refused(given: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Settings.model_validate(given)


@pytest.fixture
def settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    return settings.model_copy(update=getattr(request, "param", {}))


@pytest.mark.parametrize(
    "settings",
    [{"max_message_bytes": 2**19, "max_batch_bytes": 2**20, "max_request_bytes": 2**21}],
    indirect=True,
)
async def test_the_operators_request_size_holds(wire: Wire) -> None:
    await wire.create("one")
    assert (await error_of(wire.store("one", "x" * 2**19))).reason == "MESSAGE_TOO_LARGE"
    error = await error_of(wire.store("one", "x" * 2**21))
    assert (error.code.name, error.reason) == ("RESOURCE_EXHAUSTED", "")
