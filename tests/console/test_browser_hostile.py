"""The hostile corpus in a real browser: no dialog, no foreign request, no policy report."""

import pytest
from playwright.sync_api import Browser, expect

from sessiond import Client

from .browsing import Site, watched
from .corpus import ALL_IN_ONE, HOSTILE, LONG_LINE, SCRIPTS, as_json, messages_with
from .test_browser import chromium, site  # noqa: F401 - fixtures


def store(client: Client, session_id: str, texts: list[str]) -> int:
    session = client.create_session(session_id, title=" ".join(SCRIPTS[:12]), user=SCRIPTS[0])
    for text in texts:
        for format_name, message in messages_with(text):
            session.store_message(as_json(message), format_name)
    return session.refresh().last_seq


# Each text is in all fields of a dozen messages, so a page contains many texts.
@pytest.mark.parametrize("part", range(4))
def test_no_hostile_text_acts(
    site: Site,  # noqa: F811
    chromium: Browser,  # noqa: F811
    part: int,
) -> None:
    texts = HOSTILE[part::4] + ([ALL_IN_ONE] if part == 0 else [])
    last_seq = store(site.client, f"hostile-{part}", texts)
    with watched(chromium, site.url) as found:
        tab = found.page()
        for after in range(0, last_seq, 100):
            tab.goto(f"/sessions/hostile-{part}?after={after}")
            tab.keyboard.press("e")
            tab.mouse.move(300, 300)
        for page in ("context", "tokens", "tree", "settings", "turns", "messages/1", "messages/3"):
            tab.goto(f"/sessions/hostile-{part}/{page}")
        tab.goto(f"/sessions?id=hostile-{part}")
        tab.goto(f"/sessions/hostile-{part}?q=%3Cscript%3Ealert(1)")


def test_hostile_messages_that_arrive_live_do_not_act(
    site: Site,  # noqa: F811
    chromium: Browser,  # noqa: F811
) -> None:
    session = site.client.create_session("hostile-live", model="echo")
    with watched(chromium, site.url) as found:
        tab = found.page()
        tab.goto("/sessions/hostile-live")
        expect(tab.locator("#live-status")).to_contain_text("Live")
        session.send_and_wait("go", options={"echo_text": " ".join(SCRIPTS), "echo_delay_ms": 5})
        for format_name, message in messages_with(ALL_IN_ONE):
            session.store_message(as_json(message), format_name)
        last = session.refresh().last_seq
        tab.wait_for_selector(f"#m-{last}", state="attached")


def test_lines_of_5_mb_leave_the_page_usable(
    site: Site,  # noqa: F811
    chromium: Browser,  # noqa: F811
) -> None:
    session = site.client.create_session("long-lines")
    session.store_message({"role": "user", "content": LONG_LINE})
    session.store_message({"role": "tool", "tool_call_id": "c", "content": LONG_LINE})
    with watched(chromium, site.url) as found:
        tab = found.page()
        for path in ("?after=0", "?after=1", "/messages/1", "/context", "/tokens"):
            tab.goto(f"/sessions/long-lines{path}")
            assert tab.title()
