"""Options of a model's request: JSON text within limits. Its keys keep their order."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from sessiond.v1 import conversation_service_pb2 as cs
from sessiond.v1.session_pb2 import Session
from sessiond.v1.session_service_pb2 import (
    CopySessionRequest,
    ImportSessionRequest,
    UpdateSessionRequest,
)

from ..support.model_server import ModelServer
from ..support.turns import send
from ..support.wire import Wire, error_of

# The keys are not in the order of Struct and jsonb, which sort by length, then by bytes.
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {"reasoning": {"type": "string"}, "answer": {"type": "string"}},
        },
    },
}
OPTIONS = {"top_p": 1.0, "response_format": SCHEMA, "n": 1, "metadata": {"zz": 1, "a": 2}}
MIB = 1024 * 1024


def config(text: Any) -> Struct:
    made = Struct()
    made.update({"model_options": text})
    return made


async def test_options_reach_the_model_in_the_callers_order(
    wire: Wire, models: ModelServer
) -> None:
    base = {"temperature": 0, "n": 2, "logit_bias": {"50": 1, "7": 2}}
    await wire.create("one", config={"model_options": json.dumps(base)})
    await send(wire, "one", "x", options=OPTIONS)
    body = models.requests[0].body
    sent = {key: value for key, value in body.items() if key in base | OPTIONS}
    assert json.dumps(sent) == json.dumps(base | OPTIONS)


async def test_options_stay_when_the_model_is_of_another_api(
    wire: Wire, models: ModelServer
) -> None:
    function = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
    base = {"max_completion_tokens": 7, "stop": "END", "seed": 1}
    tools = [{"type": "function", "function": function}]
    await wire.create("one", config={"model_options": json.dumps(base | {"tools": tools})})
    await send(wire, "one", "x")
    turn = await send(wire, "one", "y", model="other-1", options={"stop": ["STOP"]})
    first, second = (request.body for request in models.requests)
    assert first.items() >= (base | {"tools": tools}).items()
    assert (second["max_tokens"], second["stop_sequences"]) == (7, ["STOP"])
    assert second["tools"] == [{"name": "look_up", "input_schema": function["parameters"]}]
    assert not second.keys() & base.keys()
    changed = {change.detail for change in turn.changes if not change.seq}
    assert changed == {f"options.{key}" for key in (*base, "tools")}


async def test_a_config_gives_its_text_back_unchanged(wire: Wire) -> None:
    text = ' {"b" : 1.0, "a":[1e2, "\\u00e9"] }'
    await wire.create("one", config={"model_options": text})
    assert (await wire.get("one")).config["model_options"] == text


BAD = {
    "no JSON": ("{temperature: 0}", "INVALID_JSON"),
    "no object": ("[]", "INVALID_JSON"),
    "too deep": ('{"x":' + "[" * 200 + "]" * 200 + "}", "INVALID_JSON"),
    "too large": (json.dumps({"x": "y" * MIB}), "INVALID_FIELD"),
}


@pytest.mark.parametrize("bad", BAD)
async def test_options_beyond_the_limits_are_refused(wire: Wire, bad: str) -> None:
    text, reason = BAD[bad]
    await wire.create("one")
    request = cs.SendRequest(session_id="one", prompt="x", options_json=text)
    error = await error_of(wire.conversations.Send(request))
    assert (error.reason, list(error.fields)) == (reason, ["options_json"])
    assert await wire.read("one") == []


async def imported(wire: Wire, given: Struct) -> Any:
    async def requests() -> Any:
        yield ImportSessionRequest(session=Session(session_id="two", config=given))

    return await wire.sessions.ImportSession(requests())


DOORS: dict[str, Callable[[Wire, Struct], Awaitable[Any]]] = {
    "create": lambda wire, given: wire.create("two", config=given),
    "update": lambda wire, given: wire.sessions.UpdateSession(
        UpdateSessionRequest(session=Session(session_id="one", config=given))
    ),
    "patch": lambda wire, given: wire.sessions.UpdateSession(
        UpdateSessionRequest(session=Session(session_id="one"), config_patch=given)
    ),
    "copy": lambda wire, given: wire.sessions.CopySession(
        CopySessionRequest(session_id="one", new_session_id="two", config=given)
    ),
    "import": imported,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("given", [{"temperature": 0}, [], 1, *(text for text, _ in BAD.values())])
async def test_a_config_with_options_that_are_no_text_is_refused(
    wire: Wire, door: str, given: Any
) -> None:
    await wire.create("one")
    error = await error_of(DOORS[door](wire, config(given)))
    [(field, text)] = error.fields.items()
    assert field.endswith("model_options")
    if not isinstance(given, str):
        assert "store the options as JSON text" in text


@pytest.mark.parametrize("door", DOORS)
async def test_a_config_may_have_options_of_a_mebibyte(wire: Wire, door: str) -> None:
    await wire.create("one")
    text = json.dumps({"tools": "x" * (MIB - 20)})
    await DOORS[door](wire, config(text))
    kept = await wire.get("one" if door in ("update", "patch") else "two")
    assert kept.config["model_options"] == text
    # The rest of the config has the same limit.
    error = await error_of(
        wire.sessions.UpdateSession(
            UpdateSessionRequest(
                session=Session(session_id=kept.session_id),
                config_patch=Struct(fields={"x": config("y" * 65_536).fields["model_options"]}),
            )
        )
    )
    assert error.reason == "INVALID_FIELD"


async def test_options_of_a_config_can_be_removed(wire: Wire) -> None:
    await wire.create("one", config={"model_options": "{}", "x": 1})
    await wire.sessions.UpdateSession(
        UpdateSessionRequest(session=Session(session_id="one"), config_patch=config(None))
    )
    assert dict((await wire.get("one")).config) == {"x": 1}


async def test_the_same_request_id_with_other_options_is_refused(
    wire: Wire, models: ModelServer
) -> None:
    await wire.create("one")
    await send(wire, "one", "x", options={"n": 1}, request_id="r")
    request = cs.SendRequest(session_id="one", prompt="x", options_json='{"n": 2}', request_id="r")
    assert (await error_of(wire.conversations.Send(request))).reason == "REQUEST_ID_REUSED"
