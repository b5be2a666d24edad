"""Turns of real agents, each in a process of its own, against the model server of the tests."""

import subprocess
import sys
from pathlib import Path

from ..support.model_server import ModelServer, Reply

PROGRAMS = Path(__file__).parent / "programs"
CALL = Reply(tool_calls=[("call_1", "weather", '{"city": "Ulm"}')])


class Turns:
    """Runs one program for each turn.

    Args:
        program: name of the program in tests/adapters/programs.
        environment: the program's environment, with the server's address.
        models: the model server.
        arguments: the arguments before the session and the prompt.
    """

    def __init__(
        self, program: str, environment: dict[str, str], models: ModelServer, *arguments: str
    ) -> None:
        self._command = [sys.executable, str(PROGRAMS / f"{program}.py"), *arguments]
        self._environment = {**environment, "OPENAI_BASE_URL": models.openai_url}
        self.models = models

    def start(self, session: str, prompt: str) -> "subprocess.Popen[str]":
        """Start a turn."""
        return subprocess.Popen(
            [*self._command, session, prompt],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, session: str, prompt: str, *replies: Reply) -> tuple[int, str]:
        """Run a turn to its end.

        Args:
            session: the session.
            prompt: the user's prompt.
            *replies: the model's replies.

        Returns:
            The number of messages that the agent began with, and its answer.
        """
        self.models.script(*replies)
        process = self.start(session, prompt)
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        count, _, answer = printed.partition("\n")
        return int(count), answer.strip()

    def kill_during(self, session: str, prompt: str) -> None:
        """Run a turn, and kill its process while it waits for the model's second answer."""
        self.models.script(CALL, Reply("never", after=-1, then="hold"))
        process = self.start(session, prompt)
        assert self.models.wait_until_held()
        process.kill()
        process.communicate()

    def last_request(self) -> list[tuple[str, str]]:
        """Return the role and the text of each message in the model's latest request."""
        messages = self.models.requests[-1].body["messages"]
        return [(message["role"], _text(message.get("content"))) for message in messages]


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else ""


def three_turns_and_a_death(turns: Turns, session: str, is_saved_at_once: bool) -> int:
    """Run three turns with tools. The third one runs twice, because its first process is killed.

    Args:
        turns: the agent.
        session: the session.
        is_saved_at_once: whether the framework stores each message at once. Otherwise it stores all
            messages of a turn at the turn's end.

    Returns:
        The number of messages after the three turns.
    """
    assert turns.run(session, "How warm is it in Ulm?", CALL, Reply("21 degrees.")) == (
        0,
        "21 degrees.",
    )
    assert turns.run(session, "And now?", CALL, Reply("Still 21.")) == (4, "Still 21.")
    turns.kill_during(session, "And later?")
    kept = 8 + (3 if is_saved_at_once else 0)
    count, answer = turns.run(session, "Are you there?", Reply("Yes."))
    assert (count, answer) == (kept, "Yes.")
    given = turns.last_request()
    assert given[-1] == ("user", "Are you there?")
    assert ("tool", "21 degrees in Ulm") in given
    assert ("assistant", "Still 21.") in given
    return kept + 2
