"""PreviewTurn: the input of a model, without a call of the model."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.asset_service_pb2 import Asset
from sessiond.v1.turn_pb2 import FIT_CHANGE_KIND_MESSAGE_ADDED, FIT_CHANGE_KIND_RESULT_MISSING

from ..assets.helpers import upload
from ..support.model_server import ModelServer
from ..support.turns import send
from ..support.wire import Wire, error_of, openai
from .test_branches import child
from .test_turns_of_providers import PNG, image


async def preview(wire: Wire, session_id: str = "one", **fields: Any) -> cs.PreviewTurnResponse:
    request = cs.PreviewTurnRequest(session_id=session_id, **fields)
    return await wire.conversations.PreviewTurn(request)


@pytest.mark.parametrize("model", ["fake-1", "other-1"])
async def test_a_preview_is_what_the_turn_sends(
    wire: Wire, models: ModelServer, model: str
) -> None:
    config = {"system_prompt": "Be kind.", "model_options": '{"temperature": 0.5}'}
    await wire.create("one", config=config, model=model)
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = json.dumps({"role": "assistant", "content": None, "tool_calls": [call]})
    message = openai("x", "assistant")
    message.json = asked
    await wire.store("one", "a", message)
    options = json.dumps({"top_p": 1, "max_tokens": 9})
    shown = await preview(wire, prompt="hi", options_json=options)
    assert not models.requests
    assert (await wire.get("one")).last_seq == 2
    turn = await send(wire, "one", "hi", options={"top_p": 1, "max_tokens": 9})
    assert json.loads(shown.request_json) == models.requests[-1].body
    assert (list(shown.seqs), shown.model) == ([1, 2], model)
    assert shown.provider == ("fake" if model == "fake-1" else "other")
    assert [*shown.changes] == [*turn.changes]
    assert FIT_CHANGE_KIND_RESULT_MISSING in [change.kind for change in shown.changes]
    assert shown.change_count == turn.change_count == len(shown.changes)
    assert shown.request_bytes == len(shown.request_json.encode())


async def test_a_preview_of_a_branch(one: Wire) -> None:
    await one.store("one", "a", openai("b", "assistant"), "c")
    shown = await preview(one, parent_seq=1)
    assert [m["content"] for m in json.loads(shown.request_json)["messages"]] == ["a"]
    shown = await preview(one, messages=[child(2, "d")])
    assert list(shown.seqs) == [1, 2]
    assert json.loads(shown.request_json)["messages"][-1]["content"] == "d"
    error = await error_of(
        one.conversations.PreviewTurn(cs.PreviewTurnRequest(session_id="one", parent_seq=4))
    )
    assert (error.reason, list(error.fields)) == ("PARENT_NOT_FOUND", ["parent_seq"])


async def test_a_history_that_ends_with_an_answer_shows_what_is_added(one: Wire) -> None:
    await one.store("one", "a", openai("b", "assistant"))
    shown = await preview(one, model="other-1")
    assert [change.kind for change in shown.changes] == [FIT_CHANGE_KIND_MESSAGE_ADDED]


async def test_a_preview_moves_no_window(
    wire: Wire, models: ModelServer, query: Callable[..., Any]
) -> None:
    await wire.create("one", config={"context": {"max_messages": 4}})
    await wire.store("one", *"abcdef")
    shown = await preview(wire)
    assert list(shown.seqs) == [5, 6]
    assert query("SELECT count(*) FROM context_marks") == [(0,)]


async def test_the_content_of_assets_is_not_shown(one: Wire) -> None:
    asset: Asset = await upload(one, PNG, media_type="image/png")
    shown = await preview(one, messages=[image(asset.asset_id)])
    [part] = json.loads(shown.request_json)["messages"][0]["content"]
    note = f"data:image/png;base64,[content of asset {asset.asset_id}]"
    assert part["image_url"]["url"] == note
    assert shown.request_bytes > 4 * len(PNG) / 3


async def test_a_large_request_has_only_its_size(one: Wire) -> None:
    await one.store("one", "x" * (2 * 1024 * 1024))
    shown = await preview(one)
    assert (shown.request_json, list(shown.seqs)) == ("", [1])
    assert shown.request_bytes > 2 * 1024 * 1024


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"session_id": "missing"}, "SESSION_NOT_FOUND"),
        ({"model": "nobody/x"}, "MODEL_NOT_CONFIGURED"),
        ({"options_json": "[]"}, "INVALID_JSON"),
        ({"prompt": "x", "messages": [openai("y")]}, "INVALID_FIELD"),
        ({"parent_seq": -1}, "INVALID_FIELD"),
    ],
)
async def test_a_preview_is_refused_as_the_send_would_be(
    one: Wire, fields: dict[str, Any], reason: str
) -> None:
    request = cs.PreviewTurnRequest(**{"session_id": "one", **fields})
    assert (await error_of(one.conversations.PreviewTurn(request))).reason == reason
