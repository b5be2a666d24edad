"""The example programs of other languages, which `make languages` builds."""

import base64
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Program:
    """A program with the commands write, read, watch and reason.

    Attributes:
        language: the language of the program.
        command: the command that runs it.
        built: the file that `make languages` makes.
    """

    language: str
    command: Sequence[str]
    built: Path

    def run(self, target: str, *arguments: str, lines: Sequence[str] = (), **env: str) -> list[str]:
        """Run the program against a server, and return the lines that it prints."""
        process = self.start(target, *arguments, **env)
        printed, complaints = process.communicate("".join(f"{line}\n" for line in lines), TIMEOUT_S)
        assert process.returncode == 0, complaints
        return printed.splitlines()

    def start(self, target: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start the program; skips the test if it is not built."""
        if not self.built.exists():
            pytest.skip(
                f"{self.language}: {self.built.name} is not here; `make languages` builds it"
            )
        outer = {k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
        return subprocess.Popen(
            [*self.command, *arguments],
            env=outer | {"SESSIOND_TARGET": target} | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


GO = EXAMPLES / "go" / "sessiond-example"
JAVA = EXAMPLES / "java" / "target" / "sessiond-example-1.jar"
RUST = EXAMPLES / "rust" / "target" / "sessiond-example"
TYPESCRIPT = ROOT / "client" / "typescript"
TSX = TYPESCRIPT / "node_modules" / "tsx" / "dist" / "loader.mjs"
PYTHON = Path(__file__).with_name("python_program.py")
PROGRAMS = [
    Program("python", (sys.executable, str(PYTHON)), PYTHON),
    Program(
        "typescript",
        (
            *("env", f"TSX_TSCONFIG_PATH={TYPESCRIPT / 'test' / 'tsconfig.json'}"),
            *("node", "--import", str(TSX), str(EXAMPLES / "typescript" / "main.ts")),
        ),
        TSX,
    ),
    Program("go", (str(GO),), GO),
    Program("java", ("java", "-cp", f"{JAVA}:{JAVA.parent / 'lib'}/*", "example.Main"), JAVA),
    Program("rust", (str(RUST),), RUST),
]
# The example programs in other languages, which demonstrate all calls.
OTHERS = PROGRAMS[1:]


def encoded(texts: Sequence[str]) -> list[str]:
    """Return texts as lines of base64."""
    return [base64.b64encode(text.encode()).decode() for text in texts]
