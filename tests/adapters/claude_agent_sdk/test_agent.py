"""An agent of the Claude Agent SDK: killed, resumed, forked and continued by others.

The SDK runs the program Claude Code, which is in its wheel.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sessiond import Client
from tests.support.model_server import ModelServer, Reply

from .. import agents
from ..agents import last_input, python_of, run_agent, tool_turn

pytest.importorskip("claude_agent_sdk", reason="needs the SDK: `make adapters-test`")

from claude_agent_sdk import project_key_for_directory

from sessiond.adapters.claude_agent_sdk import SessiondSessionStore

PROGRAM = Path(__file__).parent / "agent.py"
TOOL = "mcp__weather__temperature"

model = pytest.fixture(agents.model_server)


async def test_a_killed_agent_goes_on_in_a_new_process_in_a_fork_and_under_send(
    target: str, namespace: str, client: Client, model: ModelServer, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"target": target, "namespace": namespace}
    model.script(*(r for i, c in enumerate(("Ulm", "Bonn", "Kiel")) for r in tool_turn(c, TOOL, i)))
    prompts = [f"Is it warm in {city}?" for city in ("Ulm", "Bonn", "Kiel")]
    answers = run_agent(PROGRAM, arguments, [*prompts, "die"], model, tmp_path)
    [session_id] = {id for id, _ in answers}
    assert [text for _, text in answers] == [f"It is warm in {c}." for c in ("Ulm", "Bonn", "Kiel")]

    key: Any = {"project_key": project_key_for_directory(tmp_path), "session_id": session_id}
    store = SessiondSessionStore(**arguments)
    entries = await store.load(key)
    assert entries is not None
    for city in ("Ulm", "Bonn", "Kiel"):
        assert f"21 degrees in {city}" in json.dumps(entries)

    resumed = {**arguments, "resume": session_id}
    # Claude Code's own files are missing, as on another machine.
    shutil.rmtree(tmp_path / ".claude")
    model.script(Reply(text="Resumed."))
    assert run_agent(PROGRAM, resumed, ["Where was it?"], model, tmp_path) == [
        [session_id, "Resumed."]
    ]
    for city in ("Ulm", "Bonn", "Kiel"):
        assert f"21 degrees in {city}" in last_input(model)

    model.script(Reply(text="Forked."))
    [[fork_id, _]] = run_agent(
        PROGRAM, {**resumed, "fork": True}, ["And elsewhere?"], model, tmp_path
    )
    assert fork_id != session_id
    assert "And elsewhere?" in json.dumps(await store.load({**key, "session_id": fork_id}))
    assert "And elsewhere?" not in json.dumps(await store.load(key))

    turn = client.get_session(store.sessiond_id(key)).send_and_wait("And now?", model="echo")
    model.script(Reply(text="After Send."))
    run_agent(PROGRAM, resumed, ["Go on."], model, tmp_path)
    assert "And now?" in last_input(model)
    assert turn.content in last_input(model)
    assert "21 degrees in Ulm" in last_input(model)

    # The adapter of another framework, in its own environment.
    program = Path(__file__).parents[1] / "openai_agents/agent.py"
    model.script(Reply(text="From another SDK."))
    run_agent(
        program,
        {"session_id": store.sessiond_id(key), "target": target},
        ["You go on."],
        model,
        tmp_path,
        python_of("openai-agents"),
    )
    assert "21 degrees in Kiel" in last_input(model)
    model.script(Reply(text="Back again."))
    run_agent(PROGRAM, resumed, ["And back."], model, tmp_path)
    assert "From another SDK." in last_input(model)
