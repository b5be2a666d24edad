"""A tab that follows a session through cut connections and a restart of the server."""

import re
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from playwright.sync_api import Browser, Page, expect

from sessiond import Client, Unavailable

from ..support.processes import ServerProcess
from ..support.proxy import CuttingProxy
from ..support.waiting import until
from .browsing import running_console, watched
from .test_browser import chromium  # noqa: F401 - a fixture

CUTS = 20
CUT_OFF = {
    lost: re.compile(rf"Cut off from the {lost} since \d\d:\d\d:\d\d UTC; reconnecting\.")
    for lost in ("server", "console")
}


def seqs(tab: Page) -> list[int]:
    found = tab.locator("article.message").evaluate_all("all => all.map((e) => +e.dataset.seq)")
    return [int(seq) for seq in found]


def test_a_tab_shows_every_message_once_through_cuts_and_a_restart(
    start_server: Callable[..., ServerProcess],
    database_url: str,
    chromium: Browser,  # noqa: F811
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    stop = threading.Event()
    stored = 0

    def write() -> None:
        nonlocal stored
        with Client(server.target, timeout=60) as client:
            while not stop.is_set():
                message = {"role": "user", "content": f"number {stored + 1}"}
                with suppress(Unavailable):
                    # The same request_id, so that a message is stored once.
                    stored = client.sessions.store_message(
                        "tailed", message, request_id=f"message-{stored + 1}"
                    ).last_seq
                stop.wait(0.1)

    with Client(server.target, timeout=60) as client:
        client.create_session("tailed", model="echo")
    writer = threading.Thread(target=write)
    with (
        running_console(server.target) as (url, _),
        CuttingProxy(url.removeprefix("http://")) as proxy,
    ):
        origin = f"http://{proxy.target}"
        with watched(chromium, origin) as found:
            tab = found.page()
            tab.goto("/sessions/tailed")
            expect(tab.locator("#live-status")).to_contain_text("Live")
            writer.start()
            try:
                for cut in range(CUTS):
                    before = proxy.connections
                    proxy.cut()
                    until(lambda n=before: proxy.connections > n, "the tab connects")  # type: ignore[misc]
                    if cut == CUTS // 2:
                        assert server.terminate() == 0
                        server = start_server(
                            f"--listen={server.target}", SESSIOND_DATABASE_URL=database_url
                        )
                    seen = stored + 2
                    tab.wait_for_selector(f"#m-{seen}", state="attached", timeout=60_000)
            finally:
                stop.set()
                writer.join()
            tab.wait_for_selector(f"#m-{stored}", state="attached")
            assert seqs(tab) == list(range(1, stored + 1))
            with Client(server.target, timeout=60) as client:
                answer_is_whole_through_cuts(client, proxy, tab)


def answer_is_whole_through_cuts(client: Client, proxy: CuttingProxy, tab: Page) -> None:
    words = " ".join(f"word{i}" for i in range(600))
    options = {"echo_text": words, "echo_delay_ms": 20}
    sent = client.sessions.send("tailed", "now talk", options=options)
    tab.wait_for_selector(".answer")
    for _ in range(2):
        before = proxy.connections
        proxy.cut()
        until(lambda n=before: proxy.connections > n, "the tab connects")  # type: ignore[misc]
        # On a slow machine, the whole answer may be stored by now.
        tab.wait_for_selector(".answer, article.assistant")
        for shown in tab.locator('.answer [data-kind="answer"]').all_text_contents():
            assert words.startswith(shown.strip())
    answer = client.sessions.wait_for_turn("tailed", sent.turn_id)
    tab.wait_for_selector(f"#m-{answer.seq}", state="attached")
    # Not inner_text: elements outside the viewport are not laid out, so their inner_text is empty.
    assert words in (tab.locator(f"#m-{answer.seq}").text_content() or "")
    expect(tab.locator(".answer")).to_have_count(0)


def test_a_tab_says_since_when_its_server_or_its_console_is_away(
    start_server: Callable[..., ServerProcess],
    database_url: str,
    chromium: Browser,  # noqa: F811
) -> None:
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    with Client(server.target, timeout=60) as client:
        client.create_session("tailed", model="echo")
    with ExitStack() as console:
        url, _ = console.enter_context(running_console(server.target))
        with watched(chromium, url) as found:
            tab = found.page()
            tab.goto("/sessions/tailed")
            status = tab.locator("#live-status")
            expect(status).to_contain_text("Live")
            assert server.terminate() == 0
            expect(status).to_have_text(CUT_OFF["server"], timeout=60_000)
            start_server(f"--listen={server.target}", SESSIOND_DATABASE_URL=database_url)
            expect(status).to_contain_text("Live", timeout=60_000)
            console.close()
            expect(status).to_have_text(CUT_OFF["console"], timeout=60_000)
