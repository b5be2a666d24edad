"""Runs a framework's own tests with our class, in a separate process."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parent / "plugins"
OPTIONS = ("-q", "--tb=short", "--timeout=60", "-o", "junit_family=xunit1")


@dataclass(frozen=True)
class Outcome:
    """The tests by their result. A test's name is FILE::TEST[PARAMETERS]."""

    passed: frozenset[str]
    """Tests that passed and called our class."""
    unused: frozenset[str]
    """Tests that passed without a call to our class."""
    failed: frozenset[str]
    skipped: frozenset[str]
    output: str


def suite() -> Path:
    """The directory of the framework's source distribution. Skips the test if it is missing."""
    if directory := os.environ.get("SESSIOND_TEST_SUITE"):
        return Path(directory)
    pytest.skip("the framework's own tests are not here; `make adapters-test` downloads them")


def run(plugin: str, files: Sequence[str], target: str, report: Path, *arguments: str) -> Outcome:
    """Run tests of the suite.

    Args:
        plugin: a module of tests/adapters/plugins, which replaces the framework's class by ours.
        files: the test files, relative to the suite.
        target: the server.
        report: where pytest writes its report.
        *arguments: more arguments of pytest.
    """
    directory = suite()
    path = [str(directory), str(PLUGINS), os.environ.get("PYTHONPATH", "")]
    written = f"--junitxml={report}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", plugin, *OPTIONS, written, *arguments, *files],
        cwd=directory,
        env={**os.environ, "SESSIOND_TARGET": target, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.exists(), done.stdout[-10_000:] + done.stderr[-10_000:]
    passed, unused, failed, skipped = set(), set(), set(), set()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        name = _name(case)
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(name)
        elif case.find("skipped") is not None:
            skipped.add(name)
        elif case.find("properties/property[@name='uses_sessiond']") is not None:
            passed.add(name)
        else:
            unused.add(name)
    return Outcome(
        frozenset(passed - failed),
        frozenset(unused - failed),
        frozenset(failed),
        frozenset(skipped),
        done.stdout,
    )


def _name(case: ET.Element) -> str:
    """A test's name. pytest's `classname` begins with the module, which the file already names."""
    file = case.get("file", "")
    module = file.removesuffix(".py").replace("/", ".")
    classes = case.get("classname", "").removeprefix(module).strip(".").replace(".", "::")
    return "::".join(filter(None, [file, classes, case.get("name", "")]))
