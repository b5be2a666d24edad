"""Programs that were written for Acontext's SDK run on sessiond with nothing but their imports changed.

The page with these programs stays outside the repository; without it there is nothing to try.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessiond import Client

from ..support.processes import ServerProcess

SEEDS = Path(__file__).parents[2].parent / "shared" / "seeds"
TIMEOUT_S = 120

_BLOCK = re.compile(r"^( *)```python\b[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_IMPORT = re.compile(r"^(\s*(?:from|import) )acontext\b", re.MULTILINE)

# Runs programs one after the other over the same names, as a reader does who types them in.
_DRIVER = """
import contextlib, io, json, sys
given = json.load(sys.stdin)
names = {"__name__": "__main__", **given["names"]}
printed = []
for i, program in enumerate(given["programs"]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(program, f"block {i + 1}", "exec"), names)
    printed.append(out.getvalue().splitlines())
texts = {name: value for name, value in names.items() if isinstance(value, str)}
results = {name: value.new_session_id for name, value in names.items() if hasattr(value, "new_session_id")}
json.dump({"printed": printed, "texts": texts, "results": results}, sys.stdout)
"""


@dataclass(frozen=True)
class Page:
    originals: list[str]
    programs: list[str]

    def texts(self, place: int) -> list[str]:
        """How the texts begin that a program prints: each up to its first value."""
        return [
            re.split(r"[{]", text)[0]
            for text in re.findall(r'print\(f?"([^"]*)"', self.programs[place])
        ]

    def said(self, place: int) -> list[str]:
        """The contents of the messages that a program stores."""
        return re.findall(r'"content": "([^"]*)"', self.programs[place])

    @property
    def session_ids(self) -> set[str]:
        """The sessions that are taken to be there."""
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
    blocks = [
        textwrap.dedent(match[2])
        for file in files
        for match in _BLOCK.finditer(file.read_text(encoding="utf-8"))
    ]
    return Page(blocks, [_IMPORT.sub(r"\1sessiond.compat.acontext", block) for block in blocks])


@pytest.fixture
def target(start_server: Callable[..., ServerProcess], database_url: str) -> str:
    return start_server(SESSIOND_DATABASE_URL=database_url).target


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target) as opened:
        yield opened


def _run(page: Page, names: dict[str, str], target: str) -> Any:
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("SESSIOND_", "ACONTEXT_"))
    } | {"SESSIOND_TARGET": target}
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        input=json.dumps({"names": names, "programs": page.programs}),
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_only_imports_are_changed(page: Page) -> None:
    assert len(page.programs) == len(page.originals) == 6
    for program, original in zip(page.programs, page.originals, strict=True):
        for ours, theirs in zip(program.splitlines(), original.splitlines(), strict=True):
            assert ours == theirs or ours == theirs.replace(
                "from acontext", "from sessiond.compat.acontext", 1
            )


def test_the_programs_do_what_the_page_says(page: Page, client: Client) -> None:
    # What the page takes to be there: sessions, and the names of two of them.
    names = {"original_id": "the-original", "session_id": "the-session"}
    for session_id in {*page.session_ids, *names.values()}:
        session = client.create_session(session_id, user="ada", config={"temperature": 1})
        session.store_message({"role": "user", "content": f"the beginning of {session_id}"})
        session.tasks.create(data={"task_description": "look"}, status="running", message_seqs=[1])
    result = _run(page, names, client.target)
    printed: list[list[str]] = result["printed"]

    # The basic copy, and its independence: the copy goes on, the source does not.
    [source_id] = page.session_ids - {result["texts"]["template_id"]}
    assert printed[0][0] == f"{page.texts(0)[0]}{source_id}"
    copied = printed[0][1].removeprefix(page.texts(0)[1])
    assert [m.content for m in client.sessions.get_messages(copied)] == [
        f"the beginning of {source_id}",
        *page.said(0),
    ]
    assert client.sessions.get(source_id).message_count == 1

    # The same, async. All that the page promises is copied; the links of tasks are not.
    copied = printed[1][0].removeprefix(page.texts(1)[0])
    info, source = client.sessions.get(copied), client.sessions.get(source_id)
    assert (info.user, info.config, info.message_count) == (source.user, source.config, 1)
    [task] = client.tasks.list(copied)
    assert (task.status, task.data, task.message_seqs) == (
        "running",
        {"task_description": "look"},
        [],
    )

    # A session that is not there.
    assert printed[2] == page.texts(2)[:1]

    # An experiment: the copy has more tokens than the original.
    tokens = [int(re.findall(r"\d+", line)[-1]) for line in printed[3]]
    assert [
        line.split(str(count))[0] for line, count in zip(printed[3], tokens, strict=True)
    ] == page.texts(3)
    assert tokens[0] == client.sessions.get_token_counts("the-original").total_tokens < tokens[1]

    # A checkpoint: the session goes on, the checkpoint stays.
    checkpoint_id = printed[4][0].removeprefix(page.texts(4)[0])
    assert checkpoint_id == result["results"]["checkpoint"]
    assert client.sessions.get(checkpoint_id).message_count == 1
    assert [
        m.content for m in client.sessions.get_messages("the-session", after_seq=1)
    ] == page.said(4)

    # A template.
    [*_, message] = client.sessions.get_messages(result["results"]["new_conversation"])
    assert (message.role, message.content) == ("system", page.said(5)[0])
    assert printed[5] == []
