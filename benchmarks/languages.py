"""Measures the same calls from several languages, each in a process of its own.

A program for each language is in benchmarks/programs. If the toolchain or the stubs of a language
are missing, the language is left out and the reason is printed.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benchmarks" / "programs"
TYPESCRIPT = ROOT / "client" / "typescript"
TIMEOUT_S = 300
LANGUAGES = ("Python", "Go", "TypeScript")
FIGURES: Mapping[str, tuple[str, str]] = {
    "append_p50_ms": ("append from {} p50", "ms"),
    "append_p99_ms": ("append from {} p99", "ms"),
    "read_messages_s": ("read long from {}", "messages/s"),
}


def programs() -> Iterator[tuple[str, Sequence[str], Path]]:
    """Build the programs. Yield each language, its command, and the directory to run it in."""
    yield "Python", [sys.executable, str(HERE / "measure.py")], ROOT
    if not shutil.which("go"):
        _skip("Go", "there is no go")
    elif not (ROOT / "examples/go/gen").exists():
        _skip("Go", "examples/go has no stubs: make languages")
    else:
        binary = Path(tempfile.gettempdir()) / "sessiond-benchmark-go"
        subprocess.run(["go", "build", "-o", str(binary), "."], cwd=HERE / "go", check=True)
        yield "Go", [str(binary)], ROOT
    if not shutil.which("node"):
        _skip("TypeScript", "there is no node")
    elif not (TYPESCRIPT / "node_modules").exists():
        _skip("TypeScript", "client/typescript has no node_modules: make ts")
    else:
        command = ["node", "--import", "tsx", str(HERE / "measure.mts")]
        yield "TypeScript", command, TYPESCRIPT


async def measure(
    command: Sequence[str], directory: Path, arguments: Sequence[object], message: str
) -> dict[str, float]:
    """Run one program.

    Args:
        command: the program.
        directory: the directory to run it in.
        arguments: target, session, number of appends, the long session, number of reads.
        message: the JSON of the message to append.
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, *map(str, arguments)],
        input=message,
        stdout=subprocess.PIPE,
        text=True,
        cwd=directory,
        timeout=TIMEOUT_S,
        check=True,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def _skip(language: str, why: str) -> None:
    print(f"{language}: skipped, {why}", file=sys.stderr, flush=True)
