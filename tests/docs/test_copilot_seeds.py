"""Programs of the Copilot SDK's own pages run on sessiond with nothing but their imports changed.

What a page expects to exist is typed in between. The pages are not part of the repository;
programs/copilot-*.md cover the same calls.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sessiond import Client, SessionNotFound

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
        """The prompts that it sends, in the order of the text."""
        return re.findall(r'prompt(?:": |=)f?"([^"]*)"', self)

    @property
    def ids(self) -> list[str]:
        """The session ids that stand in it."""
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

    Each answer has the number of messages that the model was given.
    """
    said: list[tuple[str, str]] = []
    for i, prompt in enumerate(prompts):
        count = 2 * i + 1
        said += [
            ("user", prompt),
            ("assistant", f"echo of {count} message{'' if count == 1 else 's'}: {prompt}"),
        ]
    return said


def said_in(client: Client, session_id: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in client.sessions.get_messages(session_id)]


def ids_in(client: Client) -> list[str]:
    return [info.session_id for info in client.list_sessions()]


class TestPersisting:
    """Page 001: dicts, awaited; the history as it is."""

    def test_conversations_are_kept(self, typed: Typed, client: Client) -> None:
        quick_start, own_ids, infinite, *_ = blocks_of("001")
        typed(
            client.target,
            quick_start,
            ASYNC_CLIENT + "user_id, project_name, task_id = 'ada', 'atlas', 7",
            own_ids,
            infinite,
        )
        # The resumed session has all of what was said before.
        [session_id] = set(quick_start.ids)
        assert len(quick_start.prompts) == 3
        assert said_in(client, session_id) == echoed(quick_start.prompts)
        assert client.sessions.get(session_id).state == "destroyed"

        assert (
            len(
                {
                    info.session_id: info
                    for info in client.list_sessions()
                    if re.search("ada|atlas|7", info.session_id)
                }
            )
            == 3
        )
        [persistent] = infinite.ids
        assert client.sessions.get(persistent).never_expires
        assert not client.sessions.get(session_id).never_expires

    def test_history(self, typed: Typed, client: Client, tmp_path: Path) -> None:
        quick_start, _, _, history, listing, *_ = blocks_of("001")
        [session_id] = set(quick_start.ids)
        given = f"{ASYNC_CLIENT}session = await client.resume_session({session_id!r})"
        printed = typed(client.target, quick_start, given, history, listing)
        expected = echoed(quick_start.prompts)
        assert printed[2] == [f"[{role}] {content}" for role, content in expected]
        exported = json.loads((tmp_path / "conversation.json").read_text(encoding="utf-8"))
        messages = client.sessions.get_messages(session_id).to_list()
        assert exported == [{"role": m.role, "content": m.content, "id": m.id} for m in messages]
        assert [(m["role"], m["content"]) for m in exported] == expected

        [info] = client.list_sessions()
        assert [line.partition(": ")[2] for line in printed[3]] == [
            session_id,
            info["modifiedTime"],
            quick_start.prompts[0],
        ]

    def test_resume_or_create(self, typed: Typed, client: Client) -> None:
        safe_resume = blocks_of("001")[5]
        made = """
            print(session.session_id)
            await session.send_and_wait("Hello")
            await session.destroy()
        """
        found = "print(len(await session.get_messages()))"
        printed = typed(client.target, ASYNC_CLIENT, safe_resume, made, safe_resume, found)
        [session_id] = safe_resume.ids
        assert printed[2] == [session_id]
        assert printed[4] == ["2"]
        assert client.sessions.get(session_id).state == "active"

    def test_bookmarks(self, typed: Typed, client: Client) -> None:
        bookmarks = blocks_of("001")[6]
        given = f"{ASYNC_CLIENT}session = await client.create_session({{'session_id': 'marked'}})"
        shown = """
            print(json.dumps(bookmarks.bookmarks))
            print(json.dumps([message.content for message in design_discussion]))
            for name in ("implementation_start", "nothing"):
                print(bookmarks.get_context_since(session, name))
        """
        printed = typed(client.target, given, bookmarks, shown)
        marks, since_design = map(json.loads, printed[2][:2])
        messages = client.sessions.get_messages("marked").to_list()
        assert said_in(client, "marked") == echoed(bookmarks.prompts)
        assert [(mark["message_index"], mark["message_id"]) for mark in marks.values()] == [
            (1, messages[1].id),
            (3, messages[3].id),
        ]
        assert since_design == [message.content for message in messages[2:]]
        assert printed[2][2:] == ["[]", "[]"]

    def test_deletion_is_final(self, typed: Typed, client: Client) -> None:
        deletion = blocks_of("001")[7]
        [gone] = deletion.ids
        for session_id in (gone, "old-1", "old-2", "new-1"):
            client.create_session(session_id).store_message({"role": "user", "content": "Hello"})
        given = f"{ASYNC_CLIENT}is_old = lambda info: info['session_id'].startswith('old-')"
        resumed = f"""
            try:
                await client.resume_session({gone!r})
            except RuntimeError as error:
                print(type(error).__name__)
        """
        printed = typed(client.target, given, deletion, resumed)
        assert printed[2] == ["SessionNotFound"]
        assert ids_in(client) == ["new-1"]


class TestMultiple:
    """Page 002: dicts, awaited; many sessions at once."""

    def test_contexts_are_isolated(self, typed: Typed, client: Client) -> None:
        quick_start, own_ids, *_ = blocks_of("002")
        printed = typed(client.target, quick_start, ASYNC_CLIENT, own_ids)
        infos = {info.session_id: info for info in client.list_sessions()}
        assert printed[2] == own_ids.ids[:1]
        assert len(own_ids.ids) == 2
        others = [info for session_id, info in infos.items() if session_id not in own_ids.ids]
        assert len(infos) == len(others) + 2 == 5
        begun, followed = quick_start.prompts[:3], quick_start.prompts[3:]
        expected = [echoed(pair) for pair in zip(begun, followed, strict=True)]
        assert sorted(said_in(client, info.session_id) for info in others) == sorted(expected)
        [claude] = [info for info in others if info.model]
        assert f'"model": "{claude.model}"' in quick_start
        assert said_in(client, claude.session_id) == expected[2]
        assert {info.state for info in others} == {"destroyed"}

    def test_parallel(self, typed: Typed, client: Client) -> None:
        parallel = blocks_of("002")[2]
        printed = typed(client.target, ASYNC_CLIENT, parallel, "await parallel_requests()")
        topics = re.findall(r'"(\w+)"', re.findall(r"topics = \[(.*)\]", parallel)[0])
        assert len(topics) == 3
        [prompt] = parallel.prompts
        assert sorted(printed[2]) == sorted(
            f"{topic}: echo of 1 message: {prompt.replace('{topic}', topic)}" for topic in topics
        )
        assert [(info.state, info.message_count) for info in client.list_sessions()] == [
            ("destroyed", 2)
        ] * 3

    def test_listing(self, typed: Typed, client: Client) -> None:
        listing = blocks_of("002")[3]
        client.create_session("titled", title="Orders").destroy()
        client.create_session("untitled")
        printed = typed(client.target, ASYNC_CLIENT, listing)
        rows = [line.partition(": ")[2] for line in printed[1]]
        untitled, titled = client.list_sessions()
        assert rows == [
            "untitled",
            untitled["modifiedTime"],
            "titled",
            titled["modifiedTime"],
            "Orders",
        ]

    def test_pool(self, typed: Typed, client: Client) -> None:
        pool = blocks_of("002")[4]
        # Before the usage closes it: more requests than sessions, and one that waits in vain.
        definition, usage = pool.split("\n\n\n# Usage\n")
        own = """
            mine = SessionPool(client, size=2)
            await mine.initialize()

            async def ask(question):
                session = await mine.acquire()
                try:
                    return await session.send_and_wait({"prompt": question})
                finally:
                    await mine.release(session)

            answers = await asyncio.gather(*[ask(f"question {i}") for i in range(6)])
            print(sum("question" in answer.content for answer in answers))
            held = [await mine.acquire(), await mine.acquire()]
            try:
                await mine.acquire(timeout=0.05)
            except TimeoutError:
                print("all are taken")
        """
        printed = typed(client.target, ASYNC_CLIENT, definition, own, usage)
        assert printed[2] == ["6", "all are taken"]
        infos = {info.session_id: info for info in client.list_sessions()}
        assert len(infos) == int(re.findall(r"SessionPool\(client, size=(\d)\)", usage)[0])
        assert {info.state for info in infos.values()} == {"destroyed"}
        # 6 questions before, and the one of the page.
        assert sum(info.message_count for info in infos.values()) == 2 * (6 + len(pool.prompts))

    def test_use_cases(self, typed: Typed, client: Client) -> None:
        *_, users, tasks, comparison = blocks_of("002")
        one_each = """
            first = await get_or_create_session(client, 1)
            await first.send_and_wait("Hello")
            for user in (1, 2):
                print(len(await (await get_or_create_session(client, user)).get_messages()))
        """
        given = "print(json.dumps([gpt_session.session_id, claude_session.session_id]))"
        printed = typed(client.target, ASYNC_CLIENT, users, one_each, tasks, comparison, given)
        assert printed[2] == ["2", "0"]
        assert set(tasks.ids) < set(ids_in(client))
        assert len(tasks.ids) == 3
        # Both had the same prompt, and each its own model.
        gpt, claude = json.loads(printed[5][0])
        assert said_in(client, gpt) == said_in(client, claude) == echoed(comparison.prompts)
        models = re.findall(r'"model": "([^"]*)"', comparison)
        assert [client.sessions.get(session_id).model for session_id in (gpt, claude)] == models
        for session_id, model in zip((gpt, claude), models, strict=True):
            [*_, answer] = client.sessions.get_messages(session_id)
            assert answer.turn is not None
            assert answer.turn.model == model


class TestPersistence:
    """Page 003: SessionConfig and MessageOptions, awaited."""

    def test_over_restarts(self, typed: Typed, client: Client, start: Callable[[], str]) -> None:
        creating, resuming, listing, *_ = blocks_of("003")
        [session_id] = set(creating.ids)
        printed = typed(client.target, creating)
        assert printed[0] == [session_id]
        assert client.sessions.get(session_id).state == "destroyed"

        # Another process of the application, and of the server.
        printed = typed(
            start(),
            "from copilot import CopilotClient, MessageOptions",
            resuming,
            ASYNC_CLIENT,
            listing,
        )
        assert said_in(client, session_id) == echoed([*creating.prompts, *resuming.prompts])
        assert printed[3] == [f"Session: {session_id}"]
        info = client.sessions.get(session_id)
        assert (info.state, f'model="{info.model}"' in creating) == ("destroyed", True)

    def test_deletion_and_history(self, typed: Typed, client: Client) -> None:
        creating, _, listing, deletion, history = blocks_of("003")
        given = "session = await client.create_session()\nawait session.send_and_wait('Hello')"
        printed = typed(client.target, creating, ASYNC_CLIENT, deletion, given, history, listing)
        assert printed[4] == [
            "[user.message] Hello",
            "[assistant.message] echo of 1 message: Hello",
        ]
        [left] = ids_in(client)
        assert printed[5] == [f"Session: {left}"]
        with pytest.raises(SessionNotFound):
            client.sessions.get(deletion.ids[0])


class TestManagement:
    """Page 004: keywords, and no await anywhere."""

    def test_contexts_are_isolated(self, typed: Typed, client: Client) -> None:
        several, own_id, listing, deletion, *_ = blocks_of("004")
        printed = typed(client.target, several, SYNC_CLIENT, own_id, listing, deletion)
        [session_id] = own_id.ids
        assert printed[2] == [session_id]
        assert (len(printed[3]), printed[3][0]) == (4, f"Session: {session_id}")
        # The last one is deleted again. The others have every answer, although nobody waited.
        infos = list(client.list_sessions())
        begun, followed = several.prompts[:3], several.prompts[3:]
        expected = [echoed(pair) for pair in zip(begun, followed, strict=True)]
        assert sorted(said_in(client, info.session_id) for info in infos) == sorted(expected)
        assert sorted(info.model for info in infos) == sorted(
            re.findall(r'model="([^"]*)"', several)
        )
        assert {info.state for info in infos} == {"destroyed"}

    def test_over_restarts(self, typed: Typed, client: Client, start: Callable[[], str]) -> None:
        *_, creating, resuming, history, deletion = blocks_of("004")
        [session_id] = set(creating.ids)
        assert typed(client.target, creating) == [[session_id]]
        assert said_in(client, session_id) == echoed(creating.prompts)

        given = "from copilot import CopilotClient"
        again = f"{SYNC_CLIENT}session = client.resume_session({session_id!r})"
        printed = typed(start(), given, resuming, again, history)
        expected = echoed([*creating.prompts, *resuming.prompts])
        assert said_in(client, session_id) == expected
        assert len(printed[3]) == len(expected)
        for line, (role, content) in zip(printed[3], expected, strict=True):
            assert line.startswith(f"[{role}.message] ")
            assert content in line or repr(content) in line

        typed(client.target, SYNC_CLIENT, deletion)
        with pytest.raises(SessionNotFound):
            client.sessions.get(session_id)
