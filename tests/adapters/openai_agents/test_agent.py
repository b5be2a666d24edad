"""An agent of the OpenAI Agents SDK: killed, resumed, forked and continued by others."""

from pathlib import Path

import pytest

from sessiond import Client
from tests.support.model_server import ModelServer, Reply

from .. import agents
from ..agents import last_input, run_agent, tool_turn

pytest.importorskip("agents", reason="needs the SDK: `make adapters-test`")

from sessiond.adapters.openai_agents import SessiondSession

PROGRAM = Path(__file__).parent / "agent.py"

model = pytest.fixture(agents.model_server)


async def test_a_killed_agent_goes_on_in_a_new_process_in_a_fork_and_under_send(
    target: str, namespace: str, client: Client, model: ModelServer, tmp_path: Path
) -> None:
    arguments = {"session_id": namespace, "target": target}
    model.script(
        *tool_turn("Ulm", "temperature", 1),
        *tool_turn("Bonn", "temperature", 2),
        *tool_turn("Kiel", "temperature", 3),
    )
    prompts = [f"Is it warm in {city}?" for city in ("Ulm", "Bonn", "Kiel")]
    answers = run_agent(PROGRAM, arguments, [*prompts, "die"], model, tmp_path)
    assert answers == ["It is warm in Ulm.", "It is warm in Bonn.", "It is warm in Kiel."]
    # Each turn has four items: a prompt, a call, the call's result and an answer.
    items = await SessiondSession(**arguments).get_items()
    assert len(items) == 12

    model.script(Reply(text="Resumed."))
    assert run_agent(PROGRAM, arguments, ["Where was it?"], model, tmp_path) == ["Resumed."]
    for city in ("Ulm", "Bonn", "Kiel"):
        assert f"21 degrees in {city}" in last_input(model)

    fork = client.sessions.copy(namespace, f"{namespace}-fork", up_to_seq=8).new_session_id
    model.script(Reply(text="Forked."))
    run_agent(PROGRAM, {**arguments, "session_id": fork}, ["And here?"], model, tmp_path)
    assert "Bonn" in last_input(model)
    assert "Kiel" not in last_input(model)
    went_on = await SessiondSession(**arguments).get_items()
    assert went_on[:13] == [*items, {"content": "Where was it?", "role": "user"}]
    assert len(went_on) == 14

    turn = client.get_session(namespace).send_and_wait("And now?", model="echo")
    assert turn.content.startswith("echo of ")
    model.script(Reply(text="After Send."))
    run_agent(PROGRAM, arguments, ["Go on."], model, tmp_path)
    assert turn.content in last_input(model)
