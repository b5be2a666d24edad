"""Examples are type-checked: the programs in examples/, and the blocks of Python on all pages."""

import os
import subprocess
import sys
from pathlib import Path

from .pages import EXAMPLES, PAGES, ROOT, blocks, name_of

# Programs on pages may have handlers without annotations, so the checks are not fully strict.
FLAGS = ("--check-untyped-defs", "--warn-unreachable", "--no-implicit-optional", "--pretty")


def _mypy(files: list[Path], directory: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", f"--config-file={os.devnull}", "--ignore-missing-imports",
            f"--cache-dir={directory / 'cache'}", "--follow-imports=silent", *FLAGS,
            *map(str, files),
        ],
        cwd=directory,
        env=os.environ | {"MYPYPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_examples_and_programs_of_pages_have_no_type_errors(tmp_path: Path) -> None:
    files = list(EXAMPLES)
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                stem = name_of(page).removesuffix(".md").replace("/", "_").replace("-", "_")
                files.append(tmp_path / f"{stem}_line_{block.line}.py")
                files[-1].write_text(block.text, encoding="utf-8")
    assert len(files) > 30
    _mypy(files, tmp_path)
