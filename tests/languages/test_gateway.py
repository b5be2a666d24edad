"""The gateway: curl and browsers call a server through it."""

import contextlib
import functools
import http.client
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S
from .gateways import envelope, gateway, post
from .programs import ROOT
from .test_programs import made_key

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HERE = Path(__file__).parent
EXPECTED = {
    "created": "in-a-browser",
    "stored": "2",
    "history": ["one", "two"],
    "watched": ["three"],
    "reason": "SESSION_NOT_FOUND",
}


@pytest.fixture
def target(start_server: Callable[..., ServerProcess], database_url: str) -> str:
    return start_server(SESSIOND_DATABASE_URL=database_url).target


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a page of another origin."""
    handler = functools.partial(Silent, directory=str(HERE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_curl_calls_with_json(target: str, tmp_path: Path) -> None:
    with gateway(target, log=tmp_path / "gateway.log") as url:
        created = {"session": {"sessionId": "by-curl", "metadata": {"a": 1}}}
        status, session = post(url, "SessionService/CreateSession", created)
        assert (status, session["sessionId"]) == (200, "by-curl")
        status, error = post(url, "SessionService/GetSession", {"sessionId": "x"})
        assert (status, error["code"]) == (404, "not_found")
        assert error["message"].startswith("SESSION_NOT_FOUND: ")
        assert error["details"][0]["debug"]["reason"] == "SESSION_NOT_FOUND"
        # AdminService is not served unless it is asked for.
        assert post(url, "AdminService/ListProjects", {})[0] == 404


def test_buf_curl_renders_details_and_streams(target: str, tmp_path: Path) -> None:
    buf = str(Path(sys.executable).with_name("buf"))

    def curl(url: str, method: str, protocol: str) -> subprocess.CompletedProcess[str]:
        command = (buf, "curl", "--schema", str(ROOT / "protos"), "--protocol", protocol)
        request = ("-d", '{"sessionId": "one"}', f"{url}/sessiond.v1.SessionService/{method}")
        return subprocess.run([*command, *request], capture_output=True, text=True, check=False)

    with gateway(target, log=tmp_path / "gateway.log") as url:
        error = json.loads(curl(url, "GetSession", "connect").stderr)
        assert error["details"][0]["debug"]["metadata"]["session_id"] == "one"
        post(url, "SessionService/CreateSession", {"session": {"sessionId": "one"}})
        for protocol in ("connect", "grpcweb"):
            assert json.loads(curl(url, "GetMessages", protocol).stdout)["resumeToken"]


def test_the_gateway_says_when_its_server_is_gone(
    start_server: Callable[..., ServerProcess], database_url: str, tmp_path: Path
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    with gateway(server.target, log=tmp_path / "gateway.log") as url:
        server.terminate()
        status, error = post(url, "SessionService/GetSession", {"sessionId": "x"})
        assert (status, error["code"]) == (503, "unavailable")


def test_a_response_begins_before_the_request_ends(target: str, tmp_path: Path) -> None:
    """A request whose end is late must not break the stream that answers it."""
    request = envelope({"sessionId": "one"})
    with gateway(target, log=tmp_path / "gateway.log") as url:
        post(url, "SessionService/CreateSession", {"session": {"sessionId": "one"}})
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.putrequest("POST", "/sessiond.v1.SessionService/GetMessages")
            connection.putheader("content-type", "application/connect+json")
            connection.putheader("connect-protocol-version", "1")
            connection.putheader("transfer-encoding", "chunked")
            connection.endheaders()
            connection.send(b"%x\r\n%b\r\n" % (len(request), request))
            response = connection.getresponse()
            first = response.read(1)
            with contextlib.suppress(OSError):  # Calls that are answered may be closed by now.
                connection.send(b"0\r\n\r\n")
            assert b"resumeToken" in first + response.read()


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on PATH")
def test_a_page_of_another_origin_converses(target: str, page: str, tmp_path: Path) -> None:
    with gateway(target, "-allow-origin", page, log=tmp_path / "gateway.log") as url:
        assert in_browser(f"{page}/page.html?gateway={url}") == EXPECTED


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on PATH")
def test_a_page_of_an_origin_that_is_not_allowed_cannot_call(
    target: str, page: str, tmp_path: Path
) -> None:
    for flags in ((), ("-allow-origin", "https://elsewhere.example")):
        with (
            gateway(target, *flags, log=tmp_path / "gateway.log") as url,
            pytest.raises(Exception, match="Failed to fetch"),
        ):
            in_browser(f"{page}/page.html?gateway={url}")


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on PATH")
def test_keys_reach_the_server(
    start_server: Callable[..., ServerProcess], database_url: str, page: str, tmp_path: Path
) -> None:
    server = start_server("--require-keys", "--insecure", SESSIOND_DATABASE_URL=database_url)
    secret = made_key(database_url)
    with gateway(server.target, "-allow-origin", page, log=tmp_path / "gateway.log") as url:
        status, error = post(url, "SessionService/ListSessions", {})
        assert (status, error["details"][0]["debug"]["reason"]) == (401, "API_KEY_MISSING")
        assert in_browser(f"{page}/page.html?gateway={url}&key={secret}") == EXPECTED


def in_browser(address: str) -> Any:
    """Return the result of the page's conversation() in Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            opened = browser.new_page()
            opened.goto(address)
            return opened.evaluate("conversation('in-a-browser')")
        finally:
            browser.close()
