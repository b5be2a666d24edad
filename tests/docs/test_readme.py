"""What the README says is tried: its programs run, its requests parse, the names in it exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from sessiond.v1 import admin_service_pb2, session_service_pb2
from sessiond_server.settings import Settings

from ..support.processes import ServerProcess

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DEFAULT_TARGET = "localhost:50051"
TIMEOUT_S = 60

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is another one at each run: times, etags, tokens.
_VOLATILE = ("create_time", "active_time", "etag", "resume_token", "token_count")


@dataclass(frozen=True)
class Block:
    """A fenced block; line is that of its fence."""

    language: str
    text: str
    line: int


def _blocks() -> list[Block]:
    text = README.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 1)
        for match in _BLOCK.finditer(text)
    ]


def _python_blocks() -> list[Block]:
    return [block for block in _blocks() if block.language == "python"]


def _grpcurl_blocks() -> list[tuple[Block, Block | None]]:
    """Each grpcurl command, and the answer shown beneath it."""
    blocks = _blocks()
    following = [*blocks[1:], None]
    return [
        (block, after if after and after.language in ("json", "text") else None)
        for block, after in zip(blocks, following, strict=True)
        if block.language == "sh" and block.text.startswith("grpcurl")
    ]


@pytest.fixture
def target(start_server: Callable[..., ServerProcess], data_dir: Path) -> str:
    """A server as a reader of the README has it: a process of its own, on the embedded PostgreSQL."""
    return start_server(SESSIOND_DATA_DIR=str(data_dir)).target


def _arguments(block: Block) -> list[str]:
    return shlex.split(block.text.replace("\\\n", " "))


def _method(path: str) -> MethodDescriptor:
    """The RPC that PACKAGE.SERVICE/METHOD names."""
    service, _, name = path.partition("/")
    services = {
        s.full_name: s
        for f in (session_service_pb2, admin_service_pb2)
        for s in f.DESCRIPTOR.services_by_name.values()
    }
    method: MethodDescriptor = services[service].methods_by_name[name]
    return method


def _run(*arguments: str, target: str) -> str:
    """Run a Python program as its reader does. Answers what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
        | {"SESSIOND_TARGET": target},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_programs_run(target: str) -> None:
    blocks = _python_blocks()
    assert len(blocks) >= 3
    printed = [_run("-c", block.text, target=target) for block in blocks]
    assert (
        "1 user Where is my order?\n2 assistant It left the warehouse this morning.\n" in printed[0]
    )
    assert "chat-42 active 2 Where is my order?" in printed[0]
    assert printed[1].startswith('{"role": "user",  "content": "Thank you!"} Thank you! ')


def test_readme_programs_print_what_their_comments_say(target: str) -> None:
    """`print(...)  # ANSWER` prints ANSWER."""
    checked = 0
    for block in _python_blocks():
        said = [
            match[1].strip()
            for match in re.finditer(r"^ *print\(.*\)  # (.*)$", block.text, re.MULTILINE)
        ]
        if said:
            assert _run("-c", block.text, target=target).splitlines() == said
            checked += len(said)
    assert checked


def test_readme_requests_are_requests() -> None:
    """The JSON given to grpcurl, parsed as grpcurl does, where there is no grpcurl."""
    called = []
    for block, _ in _grpcurl_blocks():
        arguments = _arguments(block)
        assert DEFAULT_TARGET in arguments
        if "-d" in arguments:
            method = _method(arguments[-1])
            json_format.Parse(
                arguments[arguments.index("-d") + 1], GetMessageClass(method.input_type)()
            )
            called.append(method.name)
    assert called == ["CreateSession", "StoreMessages", "GetMessages"]


def test_readme_answers_are_answers() -> None:
    """The JSON shown beneath a grpcurl command is one of the method's responses."""
    checked = 0
    for block, answer in _grpcurl_blocks():
        if answer is None or answer.language != "json":
            continue
        json_format.Parse(
            answer.text, GetMessageClass(_method(_arguments(block)[-1]).output_type)()
        )
        checked += 1
    assert checked == 3


def test_readme_grpcurl_commands_answer_what_is_shown(target: str) -> None:
    if shutil.which("grpcurl") is None:
        pytest.skip(
            "grpcurl is not on PATH (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest)"
        )
    for block, answer in _grpcurl_blocks():
        command = block.text.replace(DEFAULT_TARGET, target)
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"README.md:{block.line}: {done.stderr}"
        if answer and answer.language == "json":
            assert _settled(json.loads(done.stdout)) == _settled(json.loads(answer.text)), (
                f"README.md:{answer.line}"
            )
        elif answer:
            assert done.stdout == answer.text, f"README.md:{answer.line}"


def _settled(value: Any) -> Any:
    """The value without what is another one at each run."""
    match value:
        case dict():
            return {
                key: "..." if key in _VOLATILE else _settled(item) for key, item in value.items()
            }
        case list():
            return [_settled(item) for item in value]
        case _:
            return value


def test_readme_targets_of_make_exist() -> None:
    named = set(
        re.findall(r"(?:`|^)make ([a-z-]+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    )
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"run", "test", "bench"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def test_readme_variables_exist() -> None:
    named = set(re.findall(r"SESSIOND_[A-Z_]*[A-Z]", README.read_text(encoding="utf-8")))
    server = {f"SESSIOND_{name.upper()}" for name in Settings.model_fields} | {"SESSIOND_CONFIG"}
    others = {
        variable
        for path in (ROOT / "client/sessiond/_protocol/settings.py", ROOT / "tests/conftest.py")
        for variable in re.findall(r"SESSIOND_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8"))
    }
    assert {
        "SESSIOND_DATABASE_URL",
        "SESSIOND_DATA_DIR",
        "SESSIOND_TARGET",
        "SESSIOND_API_KEY",
    } <= named
    assert named <= server | others


def test_readme_flags_exist() -> None:
    """Flags of `sessiond serve` in the table of settings, beside their variables and defaults."""
    rows = re.findall(
        r"^\| (`--.*?) \| (`SESSIOND_.*?) \| (.*?) \|",
        README.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert rows
    for flags, variables, default in rows:
        names = [flag.replace("-", "_") for flag in re.findall(r"--([a-z-]+)", flags)]
        assert [f"SESSIOND_{name.upper()}" for name in names] == re.findall(
            r"SESSIOND_[A-Z_]+", variables
        )
        for name in names:
            declared = Settings.model_fields[name].default
            if (
                isinstance(declared, bool)
                or declared is None
                or not isinstance(declared, str | int | float)
            ):
                continue
            assert (
                f"{declared:g}" in default
                if isinstance(declared, int | float)
                else declared in default
            ), name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example: Path, target: str) -> None:
    # Twice: an example leaves nothing behind that its next run falls over.
    assert _run(str(example), target=target)
    assert _run(str(example), target=target)


def test_there_are_examples() -> None:
    names = [
        "async_agent",
        "async_chats",
        "async_copies",
        "backup",
        "chats",
        "copies",
        "import_history",
        "quickstart",
    ]
    assert [path.stem for path in EXAMPLES] == names
