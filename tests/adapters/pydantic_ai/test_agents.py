"""Agents of Pydantic AI whose processes are killed and whose sessions others continue."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessiond import Client

pytest.importorskip("pydantic_ai", reason="needs the framework: `make adapters-test`")

from sessiond.adapters.pydantic_ai import SessiondConversationStore

from ...support.model_server import ModelServer, Reply
from ..turns import Turns, three_turns_and_a_death


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def turns(environment: dict[str, str], models: ModelServer, namespace: str) -> Turns:
    return Turns("pydantic_ai_turn", environment, models, namespace)


async def test_an_agent_survives_its_process_and_others_go_on(
    turns: Turns, target: str, client: Client, namespace: str, tmp_path: Path
) -> None:
    count = three_turns_and_a_death(turns, "c", is_saved_at_once=False)
    store = SessiondConversationStore(target=target, namespace=namespace)
    conversation = await store.load("c")
    assert conversation is not None
    assert len(conversation.messages) == count
    # A fork is continued independently of its source.
    await store.fork("c", at=4, new_conversation_id="fork")
    assert turns.run("fork", "And in Rome?", Reply("22.")) == (4, "22.")
    # The server runs a turn.
    session = client.resume_session(store.sessiond_id("c"))
    session.update(model="echo")
    answer = session.send_and_wait("Thank you.")
    assert answer is not None
    # The echo model counts each call and each result as a separate message.
    assert answer.content.endswith("messages: Thank you.")
    # The agent runs again, and receives the answer of the server's turn.
    assert turns.run("c", "Bye.", Reply("Bye!")) == (count + 2, "Bye!")
    assert ("assistant", answer.content) in turns.last_request()
    fork = await store.load("fork")
    assert fork is not None
    assert len(fork.messages) == 6


async def test_an_agent_of_strands_goes_on_and_back(
    turns: Turns, target: str, namespace: str
) -> None:
    strands = pytest.importorskip("strands", reason="needs Strands: `make adapters-test`")
    from sessiond.adapters.strands import SessiondSessionManager

    turns.run("c", "How warm is it?", Reply("21 degrees."))
    agent = strands.Agent(
        session_manager=SessiondSessionManager("c", target=target, namespace=namespace)
    )
    assert [message["role"] for message in agent.messages] == ["user", "assistant"]
    assert agent.messages[1]["content"] == [{"text": "21 degrees."}]
    said: list[Any] = [
        {"role": "user", "content": [{"text": "In Ulm?"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "I look."},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Ulm"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "t1",
                        "status": "success",
                        "content": [{"text": "20"}],
                    }
                }
            ],
        },
        {"role": "assistant", "content": [{"text": "20 there."}]},
    ]
    for message in said:
        agent.messages.append(message)
        agent._session_manager.append_message(message, agent)
    assert turns.run("c", "Thanks.", Reply("Welcome."))[0] == 6
    given = turns.last_request()
    assert given[-3:] == [("tool", "20"), ("assistant", "20 there."), ("user", "Thanks.")]
    again = strands.Agent(
        session_manager=SessiondSessionManager("c", target=target, namespace=namespace)
    )
    assert again.messages[:6] == agent.messages
    assert again.messages[-1]["content"] == [{"text": "Welcome."}]
