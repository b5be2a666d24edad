"""A tab that shows a running answer while the servers behind the console restart or die."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect

from sessiond import Client, TurnLost

from ..support.processes import ServerProcess, free_port
from .browsing import running_console, watched
from .test_browser import chromium  # noqa: F401 - a fixture
from .test_browser_tail import seqs

pytestmark = pytest.mark.slow

Start = Callable[..., ServerProcess]

WORDS = " ".join(f"word{i}" for i in range(400))
OPTIONS = {"echo_text": WORDS, "echo_delay_ms": 20}


@contextmanager
def tailing(browser: Browser, target: str) -> Iterator[Page]:
    """Open a tab that follows the session "tailed", on a console of its own."""
    with running_console(target) as (url, _), watched(browser, url) as found:
        tab = found.page()
        tab.set_default_timeout(60_000)
        tab.goto("/sessions/tailed")
        expect(tab.locator("#live-status")).to_contain_text("Live")
        yield tab


def running_text(tab: Page) -> str:
    return (tab.locator('.answer [data-kind="answer"]').text_content() or "").strip()


def wait_for_text(tab: Page) -> str:
    """Wait until a part of the answer is shown; return it."""
    tab.wait_for_selector(".answer :text('word5')")
    return running_text(tab)


def shown(tab: Page, seq: int) -> str:
    # Not inner_text: elements outside the viewport are not laid out, so their inner_text is empty.
    return " ".join((tab.locator(f"#m-{seq}").text_content() or "").split())


def assert_shows_the_history(tab: Page, client: Client) -> None:
    """Check that the tab shows each stored message once, in order, with its text."""
    history = client.sessions.get_messages("tailed").to_list()
    tab.wait_for_selector(f"#m-{history[-1].seq}", state="attached")
    # If the end of a turn was announced while no server could be reached, the console looks it up.
    expect(tab.locator(".answer")).to_have_count(0, timeout=60_000)
    assert seqs(tab) == [message.seq for message in history]
    for message in history:
        assert " ".join(message.content.split()) in shown(tab, message.seq)


def test_an_answer_that_another_server_takes_over_is_shown_whole(
    start_server: Start,
    database_url: str,
    chromium: Browser,  # noqa: F811
) -> None:
    def start(listen: str) -> ServerProcess:
        flags = (f"--listen={listen}", "--drain-timeout-s=0.2")
        return start_server(*flags, SESSIOND_DATABASE_URL=database_url)

    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    servers = {address: start(address) for address in addresses}
    target = f"ipv4:{','.join(addresses)}"
    with Client(target, timeout=60) as client, Client(addresses[0], timeout=60) as first:
        client.create_session("tailed", model="echo")
        with tailing(chromium, target) as tab:
            sent = first.sessions.send("tailed", "talk", options=OPTIONS)
            seen = wait_for_text(tab)
            assert WORDS.startswith(seen)
            # Both servers restart, one after the other, so each hands the turn over.
            for address in addresses:
                assert servers[address].terminate() == 0
                servers[address] = start(address)
            answer = client.sessions.wait_for_turn("tailed", sent.turn_id, timeout=60)
            assert_shows_the_history(tab, client)
            partials = [
                message
                for message in client.sessions.get_messages("tailed").to_list()
                if message.incomplete
            ]
            # The tab still shows the text that it showed before.
            assert partials
            assert partials[0].content.strip().startswith(seen)
            expect(tab.locator("article .badge", has_text="partial answer")).to_have_count(
                len(partials)
            )
            assert WORDS in shown(tab, answer.seq)


@pytest.mark.parametrize("keep_partial", [True, False])
def test_an_answer_that_dies_with_its_server_does_not_stay_as_if_it_went_on(
    start_server: Start,
    database_url: str,
    chromium: Browser,  # noqa: F811
    keep_partial: bool,
) -> None:
    environment = {"SESSIOND_DATABASE_URL": database_url, "SESSIOND_TURN_LEASE_S": "1"}
    server = start_server(**environment)
    with Client(server.target, timeout=60) as client:
        client.create_session("tailed", model="echo")
        with tailing(chromium, server.target) as tab:
            sent = client.sessions.send(
                "tailed", "talk", options=OPTIONS, keep_partial=keep_partial
            )
            wait_for_text(tab)
            # Servers save text twice a second, so a part is saved when this word is shown.
            tab.wait_for_selector(".answer :text('word120')")
            server.kill()
            server = start_server(f"--listen={server.target}", **environment)
            with pytest.raises(TurnLost):
                client.sessions.wait_for_turn("tailed", sent.turn_id, timeout=60)
            client.sessions.store_message("tailed", {"role": "user", "content": "And now?"})
            assert_shows_the_history(tab, client)
            partial = tab.locator("article", has_text="partial answer")
            expect(partial).to_have_count(int(keep_partial))
            if keep_partial:
                expect(partial).to_contain_text("word0 word1 word2")
