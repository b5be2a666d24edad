"""Every example runs against a server in another process.

Examples are the programs in examples/, and the blocks of Python, shell sessions and grpcurl
commands on all pages, in their order.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from sessiond import Client

from ..support.processes import ServerProcess
from .pages import (
    EXAMPLES,
    WITH_GRPCURL,
    WITH_PROGRAMS,
    Block,
    arguments,
    blocks,
    grpcurl_blocks,
    name_of,
)

DEFAULT_TARGET = "localhost:50051"
TIMEOUT_S = 240

# Keys of values that differ at each run: times, etags, tokens.
_VOLATILE = ("createTime", "activeTime", "etag", "stateEtag", "resumeToken", "tokenCount")


@pytest.fixture(scope="module")
def server(
    session_data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server as a reader runs it: a separate process with the embedded PostgreSQL."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    process = ServerProcess((), {"SESSIOND_DATA_DIR": str(session_data_dir)}, log)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.end()


@pytest.fixture
def target(server: ServerProcess) -> Iterator[str]:
    """The address of a server without sessions and queues."""
    yield server.target
    with Client(server.target) as client:
        client.sessions.delete_many(all=True)
        for queue in client.processing.queues():
            client.processing.delete_queue(queue)


def _run(command: list[str], target: str, directory: Path) -> str:
    """Run a command as a reader does. Returns what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        env=environment | {"SESSIOND_TARGET": target, "PATH": path},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=name_of)
def test_programs_of_a_page_run_in_order(page: Path, target: str, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "python" and block.is_run:
            _check_printed(block, _run([sys.executable, "-c", block.text], target, tmp_path))
        elif block.language == "console":
            commands = re.findall(r"^\$ (.*)$", block.text, re.MULTILINE)
            assert commands, block
            for command in commands:
                _run(["bash", "-c", command], target, tmp_path)


def _check_printed(block: Block, printed: str) -> None:
    """`print(...)  # TEXT` prints TEXT. Prints without such a comment may print anything."""
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", block.text, re.MULTILINE)
    lines = printed.splitlines()
    if len(expected) == len(re.findall(r"\bprint\(", block.text)):
        assert lines == expected, block
    rest = iter(lines)
    assert all(line in rest for line in expected), f"{block}: {lines}"


def test_pages_say_what_their_programs_print() -> None:
    texts = [b.text for page in WITH_PROGRAMS for b in blocks(page) if b.language == "python"]
    assert sum(len(re.findall(r"\)  # ", text)) for text in texts) > 20


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_twice(example: Path, target: str, tmp_path: Path) -> None:
    # Run it twice, because what an example leaves behind must not make its next run fail.
    assert _run([sys.executable, str(example)], target, tmp_path)
    assert _run([sys.executable, str(example)], target, tmp_path)


def test_all_examples_are_found() -> None:
    assert {"async_agent", "backup", "chats", "copies", "quickstart"} <= {p.stem for p in EXAMPLES}


def _method(path: str) -> MethodDescriptor | None:
    """The RPC with the name PACKAGE.SERVICE/METHOD. None = it belongs to another package."""
    service, _, name = path.partition("/")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return None
    method: MethodDescriptor = found.methods_by_name[name]
    return method


@pytest.mark.parametrize("page", WITH_GRPCURL, ids=name_of)
def test_grpcurl_requests_parse(page: Path) -> None:
    """Parse the JSON for grpcurl as grpcurl does, also on machines without grpcurl."""
    for block, _ in grpcurl_blocks(page):
        words = arguments(block)
        assert DEFAULT_TARGET in words, block
        if "-d" in words:
            method = _method(words[-1])
            assert method, block
            request = GetMessageClass(method.input_type)()
            json_format.Parse(words[words.index("-d") + 1], request)


@pytest.mark.parametrize("page", WITH_GRPCURL, ids=name_of)
def test_grpcurl_responses_parse(page: Path) -> None:
    for block, shown in grpcurl_blocks(page):
        if shown and shown.language == "json" and (method := _method(arguments(block)[-1])):
            json_format.Parse(shown.text, GetMessageClass(method.output_type)())


@pytest.mark.parametrize("page", WITH_GRPCURL, ids=name_of)
def test_grpcurl_prints_what_is_shown(page: Path, target: str, tmp_path: Path) -> None:
    if shutil.which("grpcurl") is None:
        pytest.skip("grpcurl is not on PATH (`go install` can build it)")
    for block, shown in grpcurl_blocks(page):
        printed = _run(["bash", "-c", block.text.replace(DEFAULT_TARGET, target)], target, tmp_path)
        if shown and shown.language == "json":
            assert _settled(json.loads(printed)) == _settled(json.loads(shown.text)), shown
        elif shown:
            assert printed == shown.text, shown


def _settled(value: Any) -> Any:
    """The value without the parts that differ at each run."""
    match value:
        case dict():
            return {
                key: "..." if key in _VOLATILE else _settled(item) for key, item in value.items()
            }
        case list():
            return [_settled(item) for item in value]
        case _:
            return value
