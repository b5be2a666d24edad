"""Sessions of Strands Agents in sessiond, in cases that Strands' own tests do not cover."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from sessiond import Client

pytest.importorskip("strands", reason="needs the framework: `make adapters-test`")

from strands import Agent
from strands.agent.conversation_manager import (
    NullConversationManager,
    SummarizingConversationManager,
)
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from sessiond.adapters.strands import SessiondSessionManager, SessiondSessionRepository

MIB = 1024 * 1024


@pytest.fixture
def repository(target: str, namespace: str) -> SessiondSessionRepository:
    return SessiondSessionRepository(target=target, namespace=namespace)


@pytest.fixture
def other(target: str, namespace: str) -> SessiondSessionRepository:
    """A second repository for the same sessions. It remembers nothing that the first one read."""
    return SessiondSessionRepository(target=target, namespace=namespace)


def session(id: str = "s") -> Session:
    return Session(session_id=id, session_type=SessionType.AGENT)


def agent(id: str = "default", **state: Any) -> SessionAgent:
    return SessionAgent(agent_id=id, state=state, conversation_manager_state={})


def message(text: str, number: int, role: str = "user") -> SessionMessage:
    said: Any = {"role": role, "content": [{"text": text}]}
    return SessionMessage.from_message(said, number)


def filled(repository: SessiondSessionRepository, *texts: str, agent_id: str = "default") -> None:
    repository.create_session(session())
    repository.create_agent("s", agent(agent_id))
    for number, text in enumerate(texts):
        repository.create_message("s", agent_id, message(text, number))


def texts(found: list[SessionMessage]) -> list[str]:
    return [block["text"] for one in found for block in one.to_message()["content"]]


def test_records_come_back_equal(
    repository: SessiondSessionRepository, other: SessiondSessionRepository
) -> None:
    filled(repository)
    said: Any = {
        "role": "assistant",
        "content": [
            {"text": "é ☕ \u2028 \x00 \ud800"},
            {"image": {"format": "png", "source": {"bytes": b"\x89PNG\xff"}}},
            {
                "toolUse": {
                    "toolUseId": "t",
                    "name": "look",
                    "input": {"n": 10**30, "x": [1.5, None]},
                }
            },
        ],
        "metadata": {"usage": {"inputTokens": 1}},
    }
    stored = SessionMessage.from_message(said, 0)
    repository.create_message("s", "default", stored)
    assert other.read_message("s", "default", 0) == stored
    assert other.list_messages("s", "default") == [stored]
    changed = agent(answers=[1, None, {"k": "é"}])
    repository.update_agent("s", changed)
    assert other.read_agent("s", "default") == changed
    assert other.read_message("s", "default", 1) is None
    assert other.read_message("s", "default", -1) is None
    assert other.read_message("s", "nobody", 0) is None


def test_the_default_agent_has_the_session_of_the_session(
    repository: SessiondSessionRepository, client: Client, namespace: str
) -> None:
    filled(repository, "Tea?")
    repository.create_agent("s", agent("helper/ü"))
    repository.create_message("s", "helper/ü", message("I help.", 0, "assistant"))
    assert repository.sessiond_id("s") == f"{namespace}/s"
    assert repository.sessiond_id("s", "helper/ü") == f"{namespace}/s/helper%2F%C3%BC"
    for id, role in (("s", "user"), ("s/helper%2F%C3%BC", "assistant")):
        [stored] = client.sessions.get_messages(f"{namespace}/{id}")
        assert (stored.role, stored.format_name) == (role, "strands")
    assert texts(repository.list_messages("s", "default")) == ["Tea?"]
    assert texts(repository.list_messages("s", "helper/ü")) == ["I help."]


def test_pages_of_messages(repository: SessiondSessionRepository) -> None:
    filled(repository, *"abcde")
    pages = {(None, 0): "abcde", (2, 0): "ab", (2, 3): "de", (None, 4): "e", (3, 5): "", (0, 0): ""}
    for (limit, offset), expected in pages.items():
        assert texts(repository.list_messages("s", "default", limit, offset)) == [*expected]
    assert repository.list_messages("nowhere", "default") == []


def test_a_message_is_updated_in_its_place(
    repository: SessiondSessionRepository, other: SessiondSessionRepository, client: Client
) -> None:
    filled(repository, *"abcd")
    stored = repository.list_messages("s", "default")
    redacted = SessionMessage.from_message(stored[1].message, 1)
    redacted.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
    repository.update_message("s", "default", redacted)
    found = other.list_messages("s", "default")
    assert texts(found) == ["a", "[redacted]", "c", "d"]
    assert found[1].created_at == stored[1].created_at
    assert found[1].redact_message == redacted.redact_message
    assert [found[0], *found[2:]] == [stored[0], *stored[2:]]
    assert client.sessions.get(repository.sessiond_id("s")).last_seq == 4
    for number in (4, -1):
        with pytest.raises(SessionException, match="does not exist"):
            repository.update_message("s", "default", message("x", number))
    with pytest.raises(SessionException, match="nobody"):
        repository.update_message("s", "nobody", message("x", 0))


def test_a_message_with_too_many_after_it_is_not_updated(
    repository: SessiondSessionRepository, client: Client
) -> None:
    filled(repository)
    records = [message(str(i), i).to_dict() for i in range(1001)]
    client.sessions.import_messages(
        repository.sessiond_id("s"), records, format="other", format_name="strands"
    )
    with pytest.raises(SessionException, match="1000 follow it"):
        repository.update_message("s", "default", message("x", 0))
    repository.update_message("s", "default", message("x", 1))
    found = texts(repository.list_messages("s", "default"))
    assert (len(found), found[:3], found[-1]) == (1001, ["0", "x", "2"], "1000")


def test_errors_are_those_of_strands(repository: SessiondSessionRepository) -> None:
    with pytest.raises(SessionException, match="does not exist"):
        repository.create_message("s", "default", message("a", 0))
    with pytest.raises(SessionException, match="SESSION_NOT_FOUND"):
        repository.create_agent("s", agent())
    filled(repository, "a")
    with pytest.raises(SessionException, match="SESSION_ALREADY_EXISTS"):
        repository.create_session(session())
    with pytest.raises(SessionException, match="already exists"):
        repository.create_agent("s", agent())
    with pytest.raises(SessionException, match="it exists already"):
        repository.create_message("s", "default", message("b", 0))
    with pytest.raises(SessionException, match="the next is 1"):
        repository.create_message("s", "default", message("b", 2))
    with pytest.raises(SessionException, match="does not exist"):
        repository.update_agent("s", agent("nobody"))
    bad: Any = {"role": "user", "content": [{"toolResult": {"x": float("nan")}}]}
    with pytest.raises(SessionException, match=r"toolResult\.x is nan"):
        repository.create_message("s", "default", SessionMessage.from_message(bad, 1))
    with pytest.raises(SessionException, match="1048576"):
        repository.update_agent("s", agent(text="x" * MIB))
    with pytest.raises(SessionException, match="MESSAGE_TOO_LARGE"):
        repository.create_message("s", "default", message("x" * 17 * MIB, 1))
    with pytest.raises(SessionException, match="session_id"):
        repository.read_session("")
    assert texts(repository.list_messages("s", "default")) == ["a"]


def test_large_messages(
    repository: SessiondSessionRepository, other: SessiondSessionRepository
) -> None:
    filled(repository)
    image: Any = {
        "role": "user",
        "content": [
            {"image": {"format": "png", "source": {"bytes": bytes(range(256)) * 4096 * 8}}}
        ],
    }
    stored = SessionMessage.from_message(image, 0)
    repository.create_message("s", "default", stored)
    for number in range(1, 4):
        repository.create_message("s", "default", message("x" * 5 * MIB, number))
    found = other.list_messages("s", "default")
    assert found[0] == stored
    assert len(found) == 4
    redacted = SessionMessage.from_message(message("[gone]", 0).message, 0)
    repository.update_message("s", "default", redacted)
    assert texts(other.list_messages("s", "default"))[0] == "[gone]"


def test_groups_of_agents(
    repository: SessiondSessionRepository, other: SessiondSessionRepository
) -> None:
    def group(**state: Any) -> Any:
        return SimpleNamespace(id="team/" + "ü" * 300, serialize_state=lambda: state)

    with pytest.raises(SessionException):
        repository.create_multi_agent("s", group(a=1))
    repository.create_session(session())
    assert other.read_multi_agent("s", group().id) is None
    with pytest.raises(SessionException, match="does not exist"):
        repository.update_multi_agent("s", group(a=1))
    repository.create_multi_agent("s", group(a=1))
    other.update_multi_agent("s", group(a=[2], b=None))
    assert repository.read_multi_agent("s", group().id) == {"a": [2], "b": None}


def test_a_deleted_session_takes_its_agents(
    repository: SessiondSessionRepository, client: Client, namespace: str
) -> None:
    filled(repository, "a", agent_id="helper")
    repository.create_session(session("s2"))
    repository.delete_session("s")
    assert [info.session_id for info in client.list_sessions(session_id_prefix=namespace)] == [
        repository.sessiond_id("s2")
    ]
    with pytest.raises(SessionException):
        repository.create_message("s", "helper", message("b", 0))
    with pytest.raises(SessionException, match="SESSION_NOT_FOUND"):
        repository.delete_session("s")
    filled(repository, "new", agent_id="helper")
    assert texts(repository.list_messages("s", "helper")) == ["new"]


def test_a_session_lives_as_long_as_one_of_its_agents(
    repository: SessiondSessionRepository, other: SessiondSessionRepository, client: Client
) -> None:
    filled(repository, "a", agent_id="helper")
    # Another agent's messages do not keep the session itself from expiring.
    client.sessions.delete(repository.sessiond_id("s"))
    found = other.read_session("s")
    assert found is not None
    assert other.read_session("s") == found
    assert texts(other.list_messages("s", "helper")) == ["a"]
    client.sessions.create(repository.sessiond_id("t/", "x"))
    assert other.read_session("t/") is None


def test_of_two_writers_none_overwrites_the_other(
    repository: SessiondSessionRepository, other: SessiondSessionRepository
) -> None:
    filled(repository)

    def write(i: int) -> bool:
        try:
            (repository, other)[i % 2].create_message("s", "default", message(str(i), 0))
        except SessionException:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [i for i, is_written in enumerate(pool.map(write, range(8))) if is_written]
    assert len(won) == 1
    assert texts(other.list_messages("s", "default")) == [str(won[0])]


async def test_it_is_called_inside_a_running_loop_and_from_threads(
    repository: SessiondSessionRepository,
) -> None:
    filled(repository, "a")
    thread = threading.Thread(
        target=repository.create_message, args=("s", "default", message("b", 1))
    )
    thread.start()
    await asyncio.to_thread(thread.join)
    assert texts(repository.list_messages("s", "default")) == ["a", "b"]


def manager(target: str, namespace: str, id: str = "s") -> SessiondSessionManager:
    return SessiondSessionManager(id, target=target, namespace=namespace)


def test_an_agent_is_restored(target: str, namespace: str) -> None:
    first = Agent(session_manager=manager(target, namespace), state={"k": 1})
    sessions = first._session_manager
    assert isinstance(sessions, SessiondSessionManager)
    for text, role in (("Tea?", "user"), ("Yes.", "assistant")):
        said: Any = {"role": role, "content": [{"text": text}]}
        first.messages.append(said)
        sessions.append_message(said, first)
    first.state.set("k", [2])
    sessions.sync_agent(first)
    second = Agent(session_manager=manager(target, namespace))
    assert second.messages == first.messages
    assert second.state.get() == {"k": [2]}


@pytest.mark.parametrize(
    "make", [None, NullConversationManager, SummarizingConversationManager], ids=str
)
def test_an_agent_continues_what_others_have_written(
    target: str, namespace: str, client: Client, make: Any
) -> None:
    id = f"{namespace}/s"
    client.sessions.store_messages(
        id,
        [
            {"role": "user", "content": "Milk?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "t1", "name": "fridge", "input": {"n": 1}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "half full"}],
            },
        ],
        create={"title": "T"},
    )
    expected = [
        {"role": "user", "content": [{"text": "Milk?"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "Let me look."},
                {"toolUse": {"toolUseId": "t1", "name": "fridge", "input": {"n": 1}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "t1",
                        "status": "success",
                        "content": [{"text": "half full"}],
                    }
                }
            ],
        },
    ]
    options = {} if make is None else {"conversation_manager": make()}
    made = Agent(session_manager=manager(target, namespace), **options)
    assert made.messages == expected
    sessions = made._session_manager
    assert isinstance(sessions, SessiondSessionManager)
    said: Any = {"role": "assistant", "content": [{"text": "There is some."}]}
    made.messages.append(said)
    sessions.append_message(said, made)
    sessions.sync_agent(made)
    options = {} if make is None else {"conversation_manager": make()}
    again = Agent(session_manager=manager(target, namespace), **options)
    assert again.messages == [*expected, said]
    assert client.sessions.get(id).title == "T"


def test_a_prepared_session_becomes_the_session(
    target: str, namespace: str, client: Client
) -> None:
    client.sessions.create(f"{namespace}/s", title="T", state={"own": 1})
    made = Agent(session_manager=manager(target, namespace))
    assert made.messages == []
    info = client.sessions.get(f"{namespace}/s")
    assert info.title == "T"
    assert info.state is not None
    assert info.state["own"] == 1


def test_a_plain_repository_restores_what_others_have_written(
    repository: SessiondSessionRepository, client: Client
) -> None:
    from strands.session.repository_session_manager import RepositorySessionManager

    id = repository.sessiond_id("s")
    client.sessions.store_messages(id, [{"role": "user", "content": "Tea?"}], create={})
    made = Agent(session_manager=RepositorySessionManager("s", repository))
    assert made.messages == [{"role": "user", "content": [{"text": "Tea?"}]}]
    repository.update_agent("s", agent(k=1))
    found = repository.read_agent("s", "default")
    assert found is not None
    assert found.state == {"k": 1}
