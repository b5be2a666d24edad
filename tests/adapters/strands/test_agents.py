"""Agents of Strands whose processes are killed and whose sessions others continue."""

from collections.abc import Iterator

import pytest

from sessiond import Client

pytest.importorskip("strands", reason="needs the framework: `make adapters-test`")

from sessiond.adapters.strands import SessiondSessionRepository

from ...support.model_server import ModelServer, Reply
from ..turns import Turns, three_turns_and_a_death


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def turns(environment: dict[str, str], models: ModelServer, namespace: str) -> Turns:
    return Turns("strands_turn", environment, models, namespace)


def test_an_agent_survives_its_process_and_others_go_on(
    turns: Turns, target: str, client: Client, namespace: str
) -> None:
    count = three_turns_and_a_death(turns, "s", is_saved_at_once=True)
    repository = SessiondSessionRepository(target=target, namespace=namespace)
    assert len(repository.list_messages("s", "default")) == count
    # A copy is continued independently of its source.
    client.sessions.copy(repository.sessiond_id("s"), repository.sessiond_id("copy"), up_to_seq=4)
    assert turns.run("copy", "And in Rome?", Reply("22.")) == (4, "22.")
    # The server runs a turn.
    session = client.resume_session(repository.sessiond_id("s"))
    session.update(model="echo")
    answer = session.send_and_wait("Thank you.")
    assert answer is not None
    assert answer.content.endswith("messages: Thank you.")
    # The agent runs again, and receives the answer of the server's turn.
    assert turns.run("s", "Bye.", Reply("Bye!")) == (count + 2, "Bye!")
    assert ("assistant", answer.content) in turns.last_request()
    assert len(repository.list_messages("copy", "default")) == 6
