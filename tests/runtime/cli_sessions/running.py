"""Runs the command, and creates sessions for it."""

import json
import sys
from dataclasses import dataclass
from typing import Any

from sessiond import Client

COMMAND = [sys.executable, "-m", "sessiond_server", "sessions"]


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def kinds(self) -> list[str]:
        """The kinds of an export's lines."""
        return [line["kind"] for line in self.json_lines]


def fill(client: Client) -> None:
    ada = client.create_session(
        "chat-1", model="gpt-5", user="ada", title="Orders", config={"t": 1}, metadata={"team": "ü"}
    )
    ada.store_messages(
        [{"role": "user", "content": f"message {i}\nsecond line \x1b[2J"} for i in range(1, 13)]
    )
    ada.tasks.create(
        task_id="look", status="running", data={"what": "orders \x1b[31m"}, message_seqs=[1, 2]
    )
    ada.bookmarks.create("plan", seq=3, description="before the tools")
    bob = client.create_session("chat-2", user="bob", idle_ttl=3600)
    bob.store_message({"role": "assistant", "content": None, "tool_calls": []})
    bob.destroy()
    client.create_session("other")
