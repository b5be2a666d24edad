"""The text that a model had written when its turn ended without an answer."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    Message,
    Part,
    Parts,
)
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import ImportSessionRequest
from sessiond.v1.turn_pb2 import FIT_CHANGE_KIND_CUT_OFF_NOTED
from sessiond_server.formats.incomplete import NOTE
from sessiond_server.providers.settings import ProviderSettings
from sessiond_server.server import Running
from sessiond_server.settings import Settings
from sessiond_server.turns.state import RunningTurn
from sessiond_server.turns.store.turns import TurnStore

from ..support.model_server import ModelServer, Reply
from ..support.turns import Sent, send, sending
from ..support.waiting import PATIENCE_S, until_async
from ..support.wire import Wire, error_of, openai
from .calls import HOLD, abort, connected, held, turn_of

Query = Callable[..., list[tuple[Any, ...]]]

# The model server's first event has no text, so three events have two words.
TWO_WORDS = {"text": "one two three", "after": 3}
LOST = "UPDATE turns SET holder = gen_random_uuid(), lease_until = now() - interval '1 second'"
SAVED = "SELECT string_agg(content, '' ORDER BY start) FROM turn_texts"


@pytest.fixture
def settings(settings: Settings, models: ModelServer) -> Settings:
    """Settings with the models resp-* of OpenAI's Responses and gem-* of Gemini in addition."""
    providers = {
        "resp": ProviderSettings(
            type="openai-responses", base_url=models.openai_url, models=("resp-*",), retries=0
        ),
        "gem": ProviderSettings(
            type="gemini", base_url=models.url, models=("gem-*",), api_key_env="", retries=0
        ),
    }
    return settings.model_copy(update={"providers": {**settings.providers, **providers}})


async def cut_off(wire: Wire, models: ModelServer, **fields: Any) -> Sent:
    """Send, see two words, and abort the turn."""
    models.script(Reply(**TWO_WORDS, then="hold"))
    sent = await sending(wire, "one", "hi", **fields)
    while sent.delta_text != "one two ":
        assert await sent.read()
    await abort(wire)
    assert (await sent.error()).reason == "TURN_ABORTED"
    return sent


async def partial_of(wire: Wire, sent: Sent) -> Message:
    """Return the message that keeps the text of a turn."""
    turn = await turn_of(wire, sent.turn.turn_id)
    message = (await wire.read("one"))[-1]
    assert (message.seq, message.role, message.incomplete) == (
        turn.partial_seq,
        ROLE_ASSISTANT,
        True,
    )
    assert (message.turn.turn_id, turn.last_seq) == (turn.turn_id, 0)
    return message


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("cut", "MODEL_UNAVAILABLE"),
        ("stop", "MODEL_UNAVAILABLE"),
        ("garbage", "MODEL_ANSWER_INVALID"),
        ("error", "MODEL_UNAVAILABLE"),
        ("hold", "TURN_TIMED_OUT"),
    ],
)
async def test_the_text_is_kept_when_the_stream_breaks_or_takes_too_long(
    one: Wire, models: ModelServer, then: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"type": "server_error", "message": "overloaded"}
    models.script(Reply(**TWO_WORDS, then=then, error=error))

    def remaining_s(running: RunningTurn) -> float:
        """Let the turn time out once the words have arrived."""
        return 0.0 if then == "hold" and running.text.since(0) == "one two " else 0.01

    monkeypatch.setattr(RunningTurn, "remaining_s", property(remaining_s))
    sent = await sending(one, "one", "hi")
    assert (await sent.error()).reason == reason
    message = await partial_of(one, sent)
    assert json.loads(message.json) == {"role": "assistant", "content": "one two "}
    assert (message.turn.model, message.turn.provider) == ("fake-1", "fake")
    assert message.token_count > 0
    # Readers of the stream receive the partial message before the end of the turn.
    assert sent.types[-4:] == [
        "assistant.message",
        "session.error",
        "assistant.turn_end",
        "session.idle",
    ]
    assert sent.events[-4].message == message


async def test_the_text_of_an_aborted_turn_is_kept(one: Wire, models: ModelServer) -> None:
    sent = await cut_off(one, models)
    assert json.loads((await partial_of(one, sent)).json)["content"] == "one two "
    assert sent.types[-3:] == ["assistant.message", "assistant.turn_end", "session.idle"]


@pytest.mark.parametrize(
    ("model", "message_format", "content"),
    [
        ("resp-1", FORMAT_OPENAI, {"content": "one two "}),
        ("other-1", FORMAT_ANTHROPIC, {"content": [{"type": "text", "text": "one two "}]}),
        ("gem-1", FORMAT_GEMINI, {"parts": [{"text": "one two "}]}),
    ],
)
async def test_the_message_has_the_format_of_the_route(
    one: Wire, models: ModelServer, model: str, message_format: int, content: dict[str, Any]
) -> None:
    # The number of initial events differs between the APIs.
    after = {"resp-1": 6, "other-1": 4, "gem-1": 2}[model]
    models.script(Reply("one two three", after=after, then="hold"))
    sent = await sending(one, "one", "hi", model=model)
    await held(models)
    while sent.delta_text != "one two ":
        assert await sent.read(), sent.delta_text
    await abort(one)
    await sent.error()
    message = await partial_of(one, sent)
    assert message.format == message_format
    assert content.items() <= json.loads(message.json).items()


@pytest.mark.parametrize("model", ["fake-1", "other-1", "resp-1", "gem-1"])
async def test_the_next_request_says_that_the_answer_was_cut_off(
    one: Wire, models: ModelServer, model: str
) -> None:
    sent = await cut_off(one, models)
    partial_seq = (await partial_of(one, sent)).seq
    turn = await send(one, "one", "go on", model=model)
    request = json.dumps(models.requests[-1].body)
    assert "one two " in request
    assert NOTE in request
    assert (partial_seq, FIT_CHANGE_KIND_CUT_OFF_NOTED) in [
        (change.seq, change.kind) for change in turn.changes
    ]
    # The stored message contains only the model's own text.
    assert NOTE not in (await one.read("one"))[partial_seq - 1].json


async def test_reasoning_and_tool_calls_are_not_kept(one: Wire, models: ModelServer) -> None:
    calls = [("c", "f", '{"city": "Rome"}')]
    models.script(Reply("one two", thinking="hm", tool_calls=calls, after=6, then="cut"))
    sent = await sending(one, "one", "hi")
    await sent.error()
    message = await partial_of(one, sent)
    assert json.loads(message.json) == {"role": "assistant", "content": "one two"}


@pytest.mark.parametrize("reply", [Reply("a", thinking="hm so", after=3, then="cut"), HOLD])
async def test_without_text_nothing_is_kept(one: Wire, models: ModelServer, reply: Reply) -> None:
    models.script(reply)
    sent = await sending(one, "one", "hi")
    if reply is HOLD:
        await held(models)
        await abort(one)
    await sent.error()
    assert await one.texts("one") == ["hi"]
    assert (await turn_of(one, sent.turn.turn_id)).partial_seq == 0


async def test_a_caller_can_choose_to_drop_the_text(one: Wire, models: ModelServer) -> None:
    sent = await cut_off(one, models, keep_partial=False)
    assert await one.texts("one") == ["hi"]
    assert (await turn_of(one, sent.turn.turn_id)).partial_seq == 0


@pytest.mark.parametrize(("asked", "kept"), [(None, False), (True, True)])
async def test_the_setting_holds_unless_the_caller_chooses(
    settings: Settings, database_url: str, models: ModelServer, asked: bool | None, kept: bool
) -> None:
    async with connected(settings.model_copy(update={"keep_partial": False}), database_url) as wire:
        await wire.create("one")
        await cut_off(wire, models, **({} if asked is None else {"keep_partial": asked}))
        assert len(await wire.read("one")) == 1 + kept


async def test_a_repeated_send_has_the_same_choice(one: Wire, models: ModelServer) -> None:
    models.script(Reply("a"))
    await send(one, "one", "hi", request_id="r", keep_partial=True)
    await send(one, "one", "hi", request_id="r", keep_partial=True)
    call = Sent(one, "one", {"prompt": "hi", "request_id": "r", "keep_partial": False})
    assert (await error_of(call.read())).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("keep", [True, False])
async def test_another_server_keeps_the_text_of_a_lost_turn(
    one: Wire, settings: Settings, database_url: str, models: ModelServer, query: Query, keep: bool
) -> None:
    received = "one \0\N{GRINNING FACE} "
    models.script(Reply(text=f"{received}three", after=3, then="hold"))
    sent = await sending(one, "one", "hi", keep_partial=keep)
    await held(models)
    await until_async(
        lambda: query(SAVED) == [("one \0\N{GRINNING FACE} ".encode(),)], "it is saved"
    )
    query(LOST)
    async with connected(settings, database_url) as other:
        assert (await sent.error()).reason == "TURN_LOST"
        if keep:
            content = json.loads((await partial_of(other, sent)).json)["content"]
            assert content == received
        else:
            assert await other.texts("one") == ["hi"]
    assert query("SELECT count(*) FROM turn_texts") == [(0,)]


async def test_an_abort_at_another_server_keeps_the_text(
    one: Wire, other: Wire, models: ModelServer, query: Query
) -> None:
    models.script(Reply(**TWO_WORDS, then="hold"))
    sent = await sending(one, "one", "hi")
    await until_async(lambda: query(SAVED) == [(b"one two ",)], "it is saved")
    await abort(other)
    assert (await sent.error()).reason == "TURN_ABORTED"
    assert json.loads((await partial_of(other, sent)).json)["content"] == "one two "


async def test_the_text_of_an_answer_that_is_stored_is_not_kept_again(
    one: Wire, settings: Settings, database_url: str, models: ModelServer, query: Query
) -> None:
    models.script(Reply("a", after=0, then="hold"))
    sent = await sending(one, "one", "hi")
    await held(models)
    # A steered turn has several answers. This text belongs to an earlier one.
    query(
        "INSERT INTO turn_texts SELECT key, log, turn_id, end_seq - 1, 0, 'old' FROM turns "
        "RETURNING start"
    )
    query(LOST)
    async with connected(settings, database_url) as other:
        await sent.error()
        assert await other.texts("one") == ["hi"]


async def test_the_end_of_a_turn_deletes_what_was_saved(
    one: Wire, models: ModelServer, query: Query
) -> None:
    models.script(Reply(**TWO_WORDS, then="hold"))
    sent = await sending(one, "one", "hi")
    await until_async(lambda: query(SAVED) == [(b"one two ",)], "it is saved")
    models.release()
    await sent.end()
    assert query("SELECT count(*) FROM turn_texts") == [(0,)]


async def test_the_text_that_is_too_long_for_a_message_is_cut(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    small = settings.model_copy(update={"max_message_bytes": 1024})
    async with connected(small, database_url) as wire:
        await wire.create("one")
        models.script(Reply("\\\n" * 2000))
        sent = await sending(wire, "one", "hi")
        assert (await sent.error()).reason == "MODEL_ANSWER_INVALID"
        content = json.loads((await partial_of(wire, sent)).json)["content"]
        assert len(content) > 150
        assert ("\\\n" * 2000).startswith(content)


async def test_the_text_answers_the_message_that_its_turn_answered(
    one: Wire, models: ModelServer
) -> None:
    await one.store("one", openai("earlier"))
    await send(one, "one", "hi")
    models.script(Reply(**TWO_WORDS, then="hold"))
    sent = await sending(one, "one", "again")
    await sent.until("assistant.message_delta")
    # Meanwhile, another branch starts at the first message.
    branch = Message(format=FORMAT_OPENAI, json='{"role":"user","content":"x"}', parent_seq=1)
    await one.store("one", branch)
    await abort(one)
    await sent.error()
    assert (await partial_of(one, sent)).parent_seq == 4


async def test_deltas_go_on_when_an_abort_fails(
    one: Wire, server: Running, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.script(Reply(**TWO_WORDS, then="hold"))
    sent = await sending(one, "one", "hi")
    while sent.delta_text != "one two ":
        assert await sent.read()
    end = TurnStore.end

    async def fails(*args: Any) -> Any:
        models.release()
        async with asyncio.timeout(PATIENCE_S):
            while len(models.requests) < 1 or "three" not in sent_text():
                await asyncio.sleep(0.01)
        monkeypatch.setattr(TurnStore, "end", end)
        raise RuntimeError("the transaction fails")

    def sent_text() -> str:
        [running] = server.runner.running()
        return running.text.since(0)

    monkeypatch.setattr(TurnStore, "end", fails)
    await error_of(abort(one))
    turn = await sent.end()
    assert sent.delta_text == "one two three"
    assert (turn.partial_seq, turn.last_seq) == (0, 2)


async def test_callers_cannot_mark_a_message_and_an_import_keeps_the_mark(
    one: Wire, models: ModelServer
) -> None:
    marked = Message(
        format=FORMAT_OPENAI, json='{"role":"assistant","content":"x"}', incomplete=True
    )
    await one.store("one", marked)
    plain = Message(role=ROLE_ASSISTANT, parts=Parts(parts=[Part(text="x")]), incomplete=True)
    await one.store("one", plain)
    assert not any(message.incomplete for message in await one.read("one"))
    header = ImportSessionRequest(session=Session(session_id="new"))
    await one.sessions.ImportSession(
        iter([header, ImportSessionRequest(messages=[marked]), ImportSessionRequest()])
    )
    assert [message.incomplete for message in await one.read("new")] == [True]
