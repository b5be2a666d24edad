"""Many conversations, and a session of 100,000 messages, in a console of bounded memory."""

import re
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from ..support.waiting import PATIENCE_S
from .browsing import Site, watched
from .test_browser import chromium, site  # noqa: F401 - fixtures

MAX_MEMORY_BYTES = 150 * 1024**2
MESSAGES = 100_000


def load(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:  # noqa: S310
        return str(response.read().decode())


@pytest.mark.slow
def test_all_conversations_can_be_read_to_their_end(
    site: Site,  # noqa: F811
    conversations: list[dict[str, Any]],
) -> None:
    for i, conversation in enumerate(conversations):
        session_id = f"{len(conversations)}-{i}-{conversation['session_id']}"
        site.client.create_session(session_id).store_messages(conversation["messages"])
        path: str | None = f"/sessions/{quote(session_id, safe='')}?after=0"
        seqs: list[int] = []
        while path:
            html = load(site.url + path)
            seqs += [int(seq) for seq in re.findall(r'<article [^>]*data-seq="(\d+)"', html)]
            found = re.search(r'rel="next" href="([^"]*)"', html)
            path = found[1].replace("&amp;", "&") if found else None
        assert seqs == list(range(1, len(conversation["messages"]) + 1))
    assert site.console.memory_info().rss < MAX_MEMORY_BYTES


@pytest.mark.slow
def test_a_session_of_100_000_messages_is_read_in_bounded_memory(
    site: Site,  # noqa: F811
    chromium: Browser,  # noqa: F811
) -> None:
    session = site.client.create_session("huge")
    roles = ("user", "assistant")
    session.import_messages(
        {"role": roles[i % 2], "content": f"**{i}** {'words ' * 30}"} for i in range(MESSAGES)
    )
    with watched(chromium, site.url) as found:
        tab = found.page()
        tab.goto("/sessions/huge")
        expect(tab.locator(f"#m-{MESSAGES}")).to_be_attached()
        tab.get_by_role("link", name="Earlier messages").click()
        expect(tab.locator(f"#m-{MESSAGES - 199}")).to_be_attached()
        for path in ("?at=50000", "?after=0", "?q=words", "/tokens", "/context", "/tree"):
            tab.goto(f"/sessions/huge{path}")
    assert site.console.memory_info().rss < MAX_MEMORY_BYTES
