"""Programs of the Copilot SDK's own pages run on sessiond with nothing but their imports changed.

The programs of a page run in its order. The test adds the objects that they expect to exist. The
pages are not part of the repository; programs/copilot-*.md cover the same calls.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sessiond import Client

from .conftest import Typed

SEEDS = Path(__file__).parents[2].parent / "shared" / "seeds"

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COUNTS = {"001": 8, "002": 8, "003": 5, "004": 8}

ASYNC_CLIENT = """
import asyncio, json
from copilot import CopilotClient
client = CopilotClient()
await client.start()
"""
SYNC_CLIENT = """
import json
from copilot import CopilotClient
client = CopilotClient()
client.start()
"""


class Block(str):
    """A program of a page."""

    @property
    def prompts(self) -> list[str]:
        """The prompts that the program sends, in the order of its text."""
        return re.findall(r'prompt(?:": |=)f?"([^"]*)"', self)

    @property
    def ids(self) -> list[str]:
        """The session ids in the program's text."""
        return re.findall(
            r'(?:session_id(?:": |=)|resume_session\(|delete_session\(|session\(client, )"([^"]+)"',
            self,
        )


def blocks_of(number: str) -> list[Block]:
    files = sorted(SEEDS.glob(f"{number}*"))
    if not files:
        pytest.skip(f"the page is not here ({SEEDS}/{number}*)")
    found = [Block(text) for text in _BLOCK.findall(files[0].read_text(encoding="utf-8"))]
    assert len(found) == _COUNTS[number]
    return found


def echoed(prompts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the messages that these turns leave in a session.

    Each answer contains the number of messages in the model's request.
    """
    messages: list[tuple[str, str]] = []
    for prompt in prompts:
        plural = "s" if messages else ""
        answer = f"echo of {len(messages) + 1} message{plural}: {prompt}"
        messages += [("user", prompt), ("assistant", answer)]
    return messages


def stored(client: Client) -> dict[str, list[tuple[str, str]]]:
    """Return the messages of all sessions."""
    return {
        info.session_id: [
            (message.role, message.content)
            for message in client.sessions.get_messages(info.session_id)
        ]
        for info in client.list_sessions()
    }


def test_page_001_dicts_and_a_history_that_is_not_awaited(
    typed: Typed, client: Client, tmp_path: Path
) -> None:
    quick_start, own_ids, infinite, history, listing, safe_resume, bookmarks, deletion = blocks_of(
        "001"
    )
    [resumed], [persistent] = set(quick_start.ids), infinite.ids
    [safe], [gone] = safe_resume.ids, deletion.ids
    client.create_session(gone)
    printed = typed(
        client.target,
        quick_start,
        ASYNC_CLIENT + "user_id, project_name, task_id = 'ada', 'atlas', 7",
        own_ids,
        infinite,
        f"session = await client.resume_session({resumed!r})",
        history,
        listing,
        safe_resume,
        bookmarks,
        "print(json.dumps([message.content for message in design_discussion]))",
        "print(bookmarks.get_context_since(session, 'nothing'))",
        "print(json.dumps([mark['message_id'] for mark in bookmarks.bookmarks.values()]))",
        "is_old = lambda info: 'atlas' in info['session_id']",
        deletion,
    )
    expected = echoed(quick_start.prompts)
    assert printed[5] == [f"[{role}] {content}" for role, content in expected]
    exported = json.loads((tmp_path / "conversation.json").read_text(encoding="utf-8"))
    messages = client.sessions.get_messages(resumed).to_list()
    assert exported == [{"role": m.role, "content": m.content, "id": m.id} for m in messages]
    shown = [line.partition(": ")[2] for line in printed[6]]
    assert shown[shown.index(resumed) + 2] == quick_start.prompts[0]

    assert json.loads(printed[9][0]) == [text for _, text in echoed(bookmarks.prompts)[2:]]
    assert printed[10] == ["[]"]
    marked = client.sessions.get_messages(safe).to_list()
    assert json.loads(printed[11][0]) == [marked[1].id, marked[3].id]

    kept = stored(client)
    assert (kept.pop(resumed), kept.pop(safe)) == (expected, echoed(bookmarks.prompts))
    assert kept.pop(persistent) == []
    assert client.sessions.get(persistent).never_expires
    assert not client.sessions.get(resumed).never_expires
    # The programs of the page have deleted two sessions: one because of its age, one by its id.
    assert [session_id for session_id in kept if re.search("ada|7", session_id)] == list(kept)
    assert len(kept) == 2


def test_page_002_many_sessions_at_once(typed: Typed, client: Client) -> None:
    quick_start, own_ids, parallel, listing, pool, users, tasks, comparison = blocks_of("002")
    # Six requests share two sessions, and one more request times out.
    own_pool = """
        mine = SessionPool(client, size=2)
        await mine.initialize()

        async def ask(question):
            session = await mine.acquire()
            try:
                return (await session.send_and_wait({"prompt": question})).content
            finally:
                await mine.release(session)

        print(sum("question" in text for text in await asyncio.gather(*map(ask, ["question"] * 6))))
        held = [await mine.acquire(), await mine.acquire()]
        try:
            await mine.acquire(timeout=0.05)
        except TimeoutError:
            print("all are taken")
    """
    one_each = """
        for user in (1, 1, 2):
            session = await get_or_create_session(client, user)
            print(len(await session.get_messages()))
            await session.send_and_wait("Hello")
    """
    printed = typed(
        client.target,
        quick_start,
        ASYNC_CLIENT,
        own_ids,
        listing,
        parallel,
        "await parallel_requests()",
        pool,
        own_pool,
        users,
        one_each,
        tasks,
        comparison,
        "print(json.dumps([gpt_session.session_id, claude_session.session_id]))",
    )
    assert printed[2] == own_ids.ids[:1]
    listed = [line.partition(": ")[2] for line in printed[3]]
    assert len([text for text in listed if text in quick_start.prompts]) == 3
    [prompt] = parallel.prompts
    topics = re.findall(r'"(\w+)"', re.findall(r"topics = \[(.*)\]", parallel)[0])
    questions = [prompt.replace("{topic}", topic) for topic in topics]
    assert sorted(printed[5]) == sorted(
        f"{topic}: {echoed([question])[1][1]}"
        for topic, question in zip(topics, questions, strict=True)
    )
    assert printed[7] == ["6", "all are taken"]
    assert printed[9] == ["0", "2", "0"]

    kept = stored(client)
    assert {*own_ids.ids, *tasks.ids} < set(kept)
    pairs = list(zip(quick_start.prompts[:3], quick_start.prompts[3:], strict=True))
    for prompts in [*pairs, *([question] for question in questions)]:
        assert echoed(prompts) in kept.values()
    [model] = re.findall(r'"model": "([^"]*)"', quick_start)
    assert [
        info.status for info in client.list_sessions() if kept[info.session_id] == echoed(pairs[2])
    ] == ["destroyed"]
    # Both sessions had the same prompt, but different models.
    models = re.findall(r'"model": "([^"]*)"', comparison)
    assert model in models
    for session_id, model in zip(json.loads(printed[12][0]), models, strict=True):
        [*_, answer] = client.sessions.get_messages(session_id)
        assert kept[session_id] == echoed(comparison.prompts)
        assert answer.turn
        assert answer.turn.model == client.sessions.get(session_id).model == model


def test_page_003_objects_and_a_restart(
    typed: Typed, client: Client, start: Callable[[], str]
) -> None:
    creating, resuming, listing, deletion, history = blocks_of("003")
    [session_id] = set(creating.ids)
    assert typed(client.target, creating) == [[session_id]]
    info = client.sessions.get(session_id)
    assert (info.status, f'model="{info.model}"' in creating) == ("destroyed", True)

    # The application and the server run in new processes.
    printed = typed(
        start(),
        "from copilot import CopilotClient, MessageOptions",
        resuming,
        ASYNC_CLIENT,
        listing,
        f"session = await client.resume_session({session_id!r})",
        history,
    )
    expected = echoed([*creating.prompts, *resuming.prompts])
    assert stored(client) == {session_id: expected}
    assert printed[3] == [f"Session: {session_id}"]
    assert printed[5] == [f"[{role}.message] {content}" for role, content in expected]
    typed(client.target, ASYNC_CLIENT, deletion)
    assert stored(client) == {}


def test_page_004_keywords_and_no_await(
    typed: Typed, client: Client, start: Callable[[], str]
) -> None:
    several, own_id, listing, deletion, creating, resuming, history, last_deletion = blocks_of(
        "004"
    )
    printed = typed(client.target, several, SYNC_CLIENT, own_id, listing, deletion)
    [session_id] = own_id.ids
    assert printed[2] == [session_id]
    assert (len(printed[3]), printed[3][0]) == (4, f"Session: {session_id}")
    # Every question is answered, although the program did not wait.
    expected = [echoed(pair) for pair in zip(several.prompts[:3], several.prompts[3:], strict=True)]
    assert sorted(stored(client).values()) == sorted(expected)
    infos = list(client.list_sessions())
    assert sorted(info.model for info in infos) == sorted(re.findall(r'model="([^"]*)"', several))
    assert {info.status for info in infos} == {"destroyed"}

    [session_id] = set(creating.ids)
    assert typed(client.target, creating) == [[session_id]]
    again = f"{SYNC_CLIENT}session = client.resume_session({session_id!r})"
    printed = typed(start(), "from copilot import CopilotClient", resuming, again, history)
    messages = echoed([*creating.prompts, *resuming.prompts])
    assert stored(client)[session_id] == messages
    for line, (role, content) in zip(printed[3], messages, strict=True):
        assert line.startswith(f"[{role}.message] ")
        assert content in line or repr(content) in line
    typed(client.target, SYNC_CLIENT, last_deletion)
    assert session_id not in stored(client)
