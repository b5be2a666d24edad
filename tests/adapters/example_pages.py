"""Runs the programs of a page about a framework. tests/docs cannot, as it has no frameworks."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, blocks
from tests.support.model_server import ModelServer


def run_page(name: str, target: str, model: ModelServer, home: Path) -> list[str]:
    """Run the programs of a page in order, as a reader does.

    A `print(...)  # TEXT` must print TEXT.

    Args:
        name: the page's file name.
        target: the server.
        model: the stand-in for the model.
        home: the directory in which programs keep files.

    Returns:
        All lines that were printed.
    """
    printed: list[str] = []
    environment = {
        **os.environ,
        "SESSIOND_TARGET": target,
        "OPENAI_BASE_URL": model.openai_url,
        "OPENAI_API_KEY": "none",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "none",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT / "client"),
    }
    for block in blocks(ROOT / "docs/guides" / name):
        if block.language != "python":
            continue
        done = subprocess.run(
            [sys.executable, "-c", block.text],
            env=environment,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
        lines = done.stdout.splitlines()
        rest = iter(lines)
        expected = re.findall(r"^ *print\(.*\)  # (.*)$", block.text, re.MULTILINE)
        assert all(line in rest for line in expected), f"{block}: {lines}"
        printed += lines
    return printed
