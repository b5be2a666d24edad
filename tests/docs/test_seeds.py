"""Programs of Acontext's own page run on sessiond with nothing but their imports changed.

The page is not part of the repository. programs/acontext.md covers the same calls.
"""

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessiond import Client

from .conftest import Typed

SEEDS = Path(__file__).parents[2].parent / "shared" / "seeds"

_BLOCK = re.compile(r"^( *)```python\b[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """The programs of the page, in its order."""

    programs: list[str]

    def texts(self, place: int) -> list[str]:
        """Return the beginning of each text that a program prints: the part before any value."""
        return [
            text.partition("{")[0]
            for text in re.findall(r'print\(f?"([^"]*)"', self.programs[place])
        ]

    def said(self, place: int) -> list[str]:
        """Return the contents of the messages that a program stores."""
        return re.findall(r'"content": "([^"]*)"', self.programs[place])

    @property
    def session_ids(self) -> set[str]:
        """The ids of the sessions that the page expects to exist."""
        found = {
            session_id
            for program in self.programs
            for session_id in re.findall(r'"([a-z-]*uuid)"', program)
        }
        return {session_id for session_id in found if not session_id.startswith("invalid")}


@pytest.fixture(scope="module")
def page() -> Page:
    files = sorted(SEEDS.glob("000*"))
    if not files:
        pytest.skip(f"the page is not here ({SEEDS}/000*)")
    [text] = [file.read_text(encoding="utf-8") for file in files]
    programs = [textwrap.dedent(match[2]) for match in _BLOCK.finditer(text)]
    assert len(programs) == 6
    return Page(programs)


def test_the_programs_do_what_the_page_says(page: Page, client: Client, typed: Typed) -> None:
    # The page expects sessions, and variables with the ids of two of them.
    names = {"original_id": "the-original", "session_id": "the-session"}
    given = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    shown = """
import json
print(json.dumps([template_id, checkpoint.new_session_id, new_conversation.new_session_id]))
"""
    for session_id in {*page.session_ids, *names.values()}:
        session = client.create_session(session_id, user="ada", config={"temperature": 1})
        session.store_message({"role": "user", "content": f"the beginning of {session_id}"})
        session.tasks.create(data={"task_description": "look"}, status="running", message_seqs=[1])
    _, *printed, [ids] = typed(client.target, given, *page.programs, shown)
    template_id, made_checkpoint_id, conversation_id = json.loads(ids)

    # The basic copy is independent: only the copy is appended to.
    [source_id] = page.session_ids - {template_id}
    assert printed[0][0] == f"{page.texts(0)[0]}{source_id}"
    copied = printed[0][1].removeprefix(page.texts(0)[1])
    assert [m.content for m in client.sessions.get_messages(copied)] == [
        f"the beginning of {source_id}",
        *page.said(0),
    ]
    assert client.sessions.get(source_id).message_count == 1

    # The async variant. Everything that the page promises is copied. The links of tasks are not.
    copied = printed[1][0].removeprefix(page.texts(1)[0])
    info, source = client.sessions.get(copied), client.sessions.get(source_id)
    assert (info.user, info.config, info.message_count) == (source.user, source.config, 1)
    [task] = client.tasks.list(copied)
    assert (task.status, task.data, task.message_seqs) == (
        "running",
        {"task_description": "look"},
        [],
    )

    # A missing session.
    assert printed[2] == page.texts(2)[:1]

    # The experiment: the copy has more tokens than the original.
    tokens = [int(re.findall(r"\d+", line)[-1]) for line in printed[3]]
    assert [
        line.split(str(count))[0] for line, count in zip(printed[3], tokens, strict=True)
    ] == page.texts(3)
    assert tokens[0] == client.sessions.get_token_counts("the-original").total_tokens < tokens[1]

    # The checkpoint: the session is appended to, but the checkpoint does not change.
    checkpoint_id = printed[4][0].removeprefix(page.texts(4)[0])
    assert checkpoint_id == made_checkpoint_id
    assert client.sessions.get(checkpoint_id).message_count == 1
    assert [
        m.content for m in client.sessions.get_messages("the-session", after_seq=1)
    ] == page.said(4)

    # A template.
    [*_, message] = client.sessions.get_messages(conversation_id)
    assert (message.role, message.content) == ("system", page.said(5)[0])
    assert printed[5] == []
