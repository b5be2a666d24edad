"""Runs the agents of the tests as separate processes, against a fake model server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_server import ModelServer, Reply

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 180


def tool_turn(city: str, tool: str, number: int) -> list[Reply]:
    """The model's replies in a turn that calls the agents' tool."""
    call = (f"call_{number}_{city}", tool, json.dumps({"city": city}))
    return [Reply(tool_calls=[call]), Reply(text=f"It is warm in {city}.")]


def python_of(framework: str) -> str:
    """The Python of a framework's environment. Skips the test if `make adapters-test` made none."""
    python = ROOT / f".venv-{framework}" / "bin/python"
    if not python.exists():
        pytest.skip(f"needs the environment of {framework}: `make adapters-test`")
    return str(python)


def run_agent(
    program: Path,
    arguments: Mapping[str, Any],
    prompts: Sequence[str],
    model: ModelServer,
    home: Path,
    python: str = sys.executable,
) -> list[Any]:
    """Run an agent, which may kill itself.

    Args:
        program: the file of the agent's program.
        arguments: the arguments of the agent's store.
        prompts: the prompts to answer.
        model: the scripted model server.
        home: the directory in which the agent keeps files.
        python: the interpreter.

    Returns:
        What the agent printed: the JSON of each line.
    """
    environment = {
        **os.environ,
        "MODEL_URL": model.openai_url,
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "none",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HOME": str(home),
        "PYTHONPATH": f"{ROOT / 'client'}",
    }
    done = subprocess.run(
        [python, str(program), json.dumps(arguments), *prompts],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    expected = -9 if "die" in prompts else 0
    assert done.returncode == expected, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def last_input(model: ModelServer) -> str:
    """The JSON of the messages of the latest request."""
    body = model.requests[-1].body
    return json.dumps(body.get("messages") or body.get("input"))
