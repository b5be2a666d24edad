"""The log lines in docs/debugging.md have the form that the server writes."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from sessiond import Client, SequenceConflict
from sessiond_server.cli.serve import EXTRA_CONNECTIONS

from ..support.processes import ServerProcess
from .pages import ROOT, blocks

PAGE = ROOT / "docs/debugging.md"
SHOWN = {block.language: block.text for block in reversed(blocks(PAGE)) if block.language != "sql"}

Start = Callable[..., ServerProcess]


def _lines(start_server: Start, database_url: str, log_format: str) -> list[str]:
    """Return the log of a successful and a refused append."""
    process = start_server(
        "--log-level=debug", f"--log-format={log_format}", SESSIOND_DATABASE_URL=database_url
    )
    with Client(process.target) as client:
        session = client.create_session("chat-42")
        session.store_message({"role": "user", "content": "Hello"})
        with pytest.raises(SequenceConflict):
            session.store_message({"role": "user", "content": "Hello"}, expected_last_seq=0)
    process.terminate()
    return process.log.read_text().splitlines()


def _stable(line: dict[str, Any]) -> dict[str, Any]:
    return {
        key: "..." if key in ("call_id", "peer", "timestamp") else value
        for key, value in line.items()
    }


def test_the_json_line_is_such_as_the_server_writes(start_server: Start, database_url: str) -> None:
    lines = map(json.loads, _lines(start_server, database_url, "json"))
    [refused] = [line for line in lines if line["event"] == "call_refused"]
    assert _stable(refused) == _stable(json.loads(SHOWN["json"]))
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{field}`" in text for field in refused)


def test_the_line_of_text_is_such_as_the_server_writes(
    start_server: Start, database_url: str
) -> None:
    def stable(line: str) -> str:
        return re.sub(r"\S+Z |(?<=call_id=)\S+|(?<=peer=)\S+|(?<=took_ms=)\S+", "", line).strip()

    lines = _lines(start_server, database_url, "console")
    assert stable(SHOWN["text"]) in map(stable, lines)


def test_operations_counts_the_connections_of_a_process() -> None:
    page = (ROOT / "docs/guides/operations.md").read_text(encoding="utf-8")
    assert f"processes × (pool size + {EXTRA_CONNECTIONS})" in page
