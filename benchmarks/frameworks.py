"""Measures adapters whose frameworks conflict with the packages of this environment.

Each adapter is measured together with its framework's own store, in the environment that `make
adapters-test` made for the framework. Without such an environment, the adapter is left out and the
reason is printed.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "programs"
TIMEOUT_S = 600
# The titles of our store and of the framework's own store, by framework.
FRAMEWORKS: Mapping[str, tuple[str, str]] = {
    "pydantic-ai": ("SessiondConversationStore", "in memory"),
    "strands": ("SessiondSessionRepository", "in files"),
}
FIGURES: Mapping[str, tuple[str, str]] = {
    "append_p50_ms": ("append p50", "ms"),
    "read_messages_s": ("read short", "messages/s"),
}


def programs() -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each framework with its command."""
    for name in FRAMEWORKS:
        python = ROOT / f".venv-{name}" / "bin" / "python"
        if python.exists():
            yield name, [str(python), str(HERE / f"{name.replace('-', '_')}_store.py")]
        else:
            reason = f"there is no {python.parent.parent.name}: make adapters-test"
            print(f"{name}: skipped, {reason}", file=sys.stderr, flush=True)


async def measure(
    command: Sequence[str], arguments: Sequence[object]
) -> dict[str, dict[str, float]]:
    """Run one program.

    Args:
        command: the program.
        arguments: target, number of appends, messages of the session to read, number of reads.

    Returns:
        The figures of "ours" and of the framework's "own" store, named as in FIGURES.
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        timeout=TIMEOUT_S,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found
