"""Measures repositories of Strands Agents: ours, and the framework's own one in files.

`strands_store.py TARGET APPENDS LONG READS`. Prints the figures as JSON.
"""

import json
import statistics
import sys
import tempfile
import time
import uuid
from typing import Any

from strands.session.file_session_manager import FileSessionManager
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from sessiond.adapters.strands import SessiondSessionRepository

TEXT = "the session agent tool result message of and a to in is that file query model " * 6


def message(number: int) -> SessionMessage:
    """Return message number `number`: the user and the assistant alternate."""
    said: Any = {"role": "assistant" if number % 2 else "user", "content": [{"text": TEXT}]}
    return SessionMessage.from_message(said, number)


def main(target: str, appends: int, long: int, reads: int) -> None:
    with tempfile.TemporaryDirectory(prefix="sessiond-bench-strands-") as directory:
        repositories: dict[str, Any] = {
            "ours": SessiondSessionRepository(target=target, namespace=uuid.uuid4().hex),
            "own": FileSessionManager("made", storage_dir=directory),
        }
        appended: dict[str, list[float]] = {name: [] for name in repositories}
        listed: dict[str, list[float]] = {name: [] for name in repositories}
        for repository in repositories.values():
            for session_id in ("short", "long"):
                repository.create_session(Session(session_id, SessionType.AGENT))
                repository.create_agent(session_id, SessionAgent("agent", {}, {}))
            for number in range(long):
                repository.create_message("long", "agent", message(number))
        for number in range(appends):
            for name, repository in repositories.items():
                started = time.perf_counter()
                repository.create_message("short", "agent", message(number))
                appended[name].append(time.perf_counter() - started)
        for _ in range(reads):
            for name, repository in repositories.items():
                started = time.perf_counter()
                found = repository.list_messages("long", "agent")
                listed[name].append(time.perf_counter() - started)
                assert len(found) == long
    figures = {
        name: {
            "append_p50_ms": statistics.median(appended[name]) * 1000,
            "read_messages_s": long / statistics.median(listed[name]),
        }
        for name in repositories
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
