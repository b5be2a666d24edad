"""Logs and spans never contain the content of messages or a key."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sessiond import Client, SessiondError

from ..support.collector import collecting
from ..support.model_server import ModelServer, fails
from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S, until

Start = Callable[..., ServerProcess]
MARK = "xyzzy"


def marked(what: str) -> str:
    return f"{MARK}-{what}"


def attempted(call: Callable[[], Any]) -> None:
    """Make a call that the server refuses."""
    with pytest.raises(SessiondError):
        call()


def use(target: str, key: str) -> None:
    """Send marked values in all fields, in calls that succeed and in calls that fail."""
    with Client(target, api_key=key) as client:
        session = client.create_session(
            "s", model="fake-1", user=marked("user"), title=marked("title"),
            metadata={"m": marked("metadata")}, config={"system_prompt": marked("system")},
        )  # fmt: skip
        session.store_message({"role": "user", "content": marked("content")})
        session.store_messages([{"role": "user", "content": marked(f"m{i}")} for i in range(3)])
        session.import_messages({"role": "user", "content": marked(f"i{i}")} for i in range(3))
        list(session.get_messages())
        list(client.list_sessions(user=marked("user"), metadata_contains={"m": marked("metadata")}))
        session.tasks.create(data={"description": marked("task")})
        session.bookmarks.create("b", description=marked("bookmark"))
        session.send_and_wait(marked("prompt"))
        attempted(lambda: session.send_and_wait(marked("rejected")))
        attempted(
            lambda: session.store_message(
                {"role": "user", "content": marked("late")}, expected_last_seq=0
            )
        )
        for wrong in (
            {"role": marked("role"), "content": marked("x")},
            {"role": "user", "content": {"type": marked("type")}},
            {"role": "user", "content": [{"type": marked("part"), "text": marked("x")}]},
            {"role": "tool", "content": marked("x"), "tool_call_id": {"a": marked("id")}},
        ):
            with suppress(SessiondError):
                session.store_message(wrong, format="openai")
        asset = client.assets.upload(marked("asset").encode())
        b"".join(client.assets.download(asset.asset_id))
    with Client(target, api_key=f"sk_{MARK}_wrong") as client:
        attempted(client.create_session)


def reasons_in(log: str) -> set[str]:
    return {line.get("reason", "") for line in map(json.loads, log.splitlines())}


def test_no_content_and_no_key_in_any_log_or_span(start_server: Start, database_url: str) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "sessiond_server", "keys", "create", "--project", "acme"],
        env=os.environ | {"SESSIOND_DATABASE_URL": database_url},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    key = made.stdout.strip()
    with ModelServer() as models, collecting() as collector:
        models.script(models.default, fails(400, f"cannot take {marked('echoed by the provider')}"))
        provider = {"type": "openai", "base_url": models.openai_url, "models": ["fake-*"]}
        process = start_server(
            "--log-level=debug", "--log-calls", "--log-format=json", "--slow-statement-ms=1",
            "--require-keys", SESSIOND_DATABASE_URL=database_url,
            SESSIOND_PROVIDERS=json.dumps({"fake": provider}),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        )  # fmt: skip
        use(process.target, key)
        assert process.terminate() == 0
        until(lambda: bool(collector.bodies), "spans have arrived")
        spans = collector.spans()
    lines = process.log.read_text("utf-8")
    assert {"sessiond.v1.SessionService/StoreMessages", "chat fake-1"} <= {s.name for s in spans}
    assert '"event": "call"' in lines
    assert {"UNKNOWN_ROLE", "SEQUENCE_CONFLICT", "API_KEY_INVALID"} <= reasons_in(lines)
    for source, text in (("log", lines), ("spans", "\n".join(map(str, spans)))):
        found = [line for line in text.splitlines() if MARK in line or key[-20:] in line]
        assert not found, f"in the {source}: {found[:5]}"


def test_a_slow_statement_is_logged_with_its_name(start_server: Start, database_url: str) -> None:
    process = start_server(
        "--log-format=json", "--slow-statement-ms=20", SESSIOND_DATABASE_URL=database_url
    )
    with Client(process.target) as client, psycopg.connect(database_url) as other:
        session = client.create_session("s")
        other.execute("SELECT FROM sessions FOR UPDATE")
        with ThreadPoolExecutor() as pool:
            message = {"role": "user", "content": "hello"}
            storing = pool.submit(session.store_message, message, timeout=PATIENCE_S)
            until(lambda: "messages.append.append" in process.log.read_text(), "it is logged")
            other.rollback()
            assert storing.result().last_seq == 1
    process.terminate()
    slow = [line for line in map(json.loads, process.log.read_text().splitlines())
            if line["event"] == "slow_statement"]  # fmt: skip
    assert "messages.append.append" in {line["statement"] for line in slow}


def test_each_call_has_a_line_where_asked_for(
    start_server: Start, database_url: str, tmp_path: Path
) -> None:
    process = start_server("--log-format=json", "--log-calls", SESSIOND_DATABASE_URL=database_url)
    with Client(process.target) as client:
        client.create_session("s")
        attempted(lambda: client.resume_session("nowhere"))
    process.terminate()
    calls = [line for line in map(json.loads, process.log.read_text().splitlines())
             if line["event"] in ("call", "slow_call")]  # fmt: skip
    assert [(line["method"], line["code"], line["session_id"]) for line in calls] == [
        ("CreateSession", "OK", "s"),
        ("ResumeSession", "NOT_FOUND", "nowhere"),
    ]
