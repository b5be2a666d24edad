"""A server and a console in separate processes, and a Chromium that records faults."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

from sessiond import Client

from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
AXE = "axe-core@4.14.1"
# How long a page may take. Playwright's expect() would give up after five seconds.
TIMEOUT_MS = PATIENCE_S * 1000 / 4
expect.set_options(timeout=TIMEOUT_MS)
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
# A script that runs before each page's own scripts.
_RECORD_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@dataclass
class Site:
    """A running console, and the server behind it."""

    server: ServerProcess
    url: str
    client: Client
    console: psutil.Process


@contextmanager
def running_console(target: str, *flags: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run a console in front of a server; yield its address and its process."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sessiond_server", "console"),
            *("--target", target, "--listen", "127.0.0.1:0", *flags),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("sessiond console on "), line
        yield line.split()[-1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run Chromium; skip the test if there is none."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"Chromium is not here ({CHROMIUM}): apt-get install chromium")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except Error as error:
            pytest.skip(f"Chromium does not start: {error}")
        yield browser
        browser.close()


@dataclass
class Watched:
    """A browser context that records dialogs, foreign requests, violations and errors."""

    context: BrowserContext
    origin: str
    dialogs: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def page(self) -> Page:
        """Open a tab."""
        page = self.context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        self.pages.append(page)
        return page

    def check(self) -> None:
        """Assert that no dialog, no foreign request, no violation and no script error was seen."""
        violations: list[Any] = []
        for page in self.pages:
            if not page.is_closed():
                with suppress(Error):
                    violations += page.evaluate("window.violations")
        assert not self.dialogs
        assert not self.foreign
        assert not violations
        assert not self.errors

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin, "about:", "chrome-error:")):
            self.foreign.append(request.url)

    def _console(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.errors.append(message.text)


@contextmanager
def watched(browser: Browser, origin: str, **options: Any) -> Iterator[Watched]:
    """Open a context, and check at the end that no forbidden event was recorded."""
    context = browser.new_context(base_url=origin, **options)
    context.add_init_script(_RECORD_VIOLATIONS)
    found = Watched(context, origin)
    try:
        yield found
        found.check()
    finally:
        context.close()


def axe_source(directory: Path) -> str:
    """Return the source of axe-core, from npm; skip the test if npm cannot give it."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("axe-core comes from npm, which is not here")
    done = subprocess.run(
        [npm, "install", "--prefix", str(directory), "--silent", "--no-audit", "--no-fund", AXE],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot install {AXE}: {done.stderr[-300:]}")
    return (directory / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def serious_faults(page: Page, source: str) -> list[str]:
    """Return the serious and critical findings of axe on a page."""
    page.evaluate(source)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {json.dumps(node['target'])} {node['failureSummary']}"
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
