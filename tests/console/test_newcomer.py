"""A first-time user of the console answers four questions from its visible elements.

Each step clicks or fills a visible element. No step types an address.
"""

from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from sessiond import Client, TurnFailed

from ..support.databases import Databases, url_of
from ..support.processes import ServerProcess
from .browsing import Site, running_chromium, running_console, watched

LENGTHS = {"ada": (4, 22, 10), "bob": (8, 40, 2), "eve": (3, 9, 5)}
YESTERDAY = ("ada-0", "ada-1", "bob-1")


def fill(client: Client, url: str) -> None:
    for user, lengths in LENGTHS.items():
        for number, length in enumerate(lengths):
            session = client.create_session(f"{user}-{number}", user=user, model="echo")
            session.store_messages(
                [
                    {"role": ("user", "assistant")[seq % 2], "content": f"{user}, message {seq}"}
                    for seq in range(length)
                ]
            )
    # ada's longest session was not active yesterday.
    client.sessions.store_messages(
        "ada-2", [{"role": "user", "content": f"more {seq}"} for seq in range(90)]
    )
    session = client.get_session("ada-1")
    session.send_and_wait("Where is my parcel?")
    with pytest.raises(TurnFailed):
        session.send_and_wait(
            "And when does it come?", options={"echo_fault": "MODEL_RATE_LIMITED"}
        )
    fork = session.copy("ada-1-fork", up_to_seq=22)
    fork.store_messages(
        [
            {"role": "user", "content": "Another question"},
            {"role": "assistant", "content": "Another answer"},
        ]
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "UPDATE sessions SET active_at = active_at - interval '1 day' "
            "WHERE session_id = ANY(%s)",
            [list(YESTERDAY)],
        )


@pytest.fixture(scope="module")
def site(
    postgres: str, databases: Databases, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    name = databases.create(template)
    url = url_of(postgres, name)
    log = tmp_path_factory.mktemp("server") / "server.log"
    server = ServerProcess((), {"SESSIOND_DATABASE_URL": url}, log)
    try:
        server.wait_until_ready()
        with Client(server.target) as client, running_console(server.target) as (address, console):
            fill(client, url)
            yield Site(server, address, client, console)
    finally:
        server.end()
        databases.leave(name)


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    chromium: Browser
    with running_chromium() as chromium, watched(chromium, site.url) as found:
        page = found.page()
        page.goto("/")
        yield page


def test_a_newcomer_finds_what_went_wrong_yesterday(page: Page) -> None:
    # Question 1: the longest of ada's sessions that were active yesterday.
    page.get_by_label("user", exact=True).fill("ada")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="active yesterday").click()
    page.get_by_role("link", name="most messages first").click()
    for chosen in ("active yesterday", "most messages first"):
        link = page.get_by_role("link", name=chosen)
        expect(link).to_have_attribute("aria-current", "true")
    rows = page.locator("table.sessions tbody tr")
    expect(rows).to_have_count(2)
    first = rows.first
    expect(first).to_contain_text("ada-1")
    first.locator("a.title").click()

    # Question 2: the failed turn and its reason, in the transcript and in the list of turns.
    expect(page.get_by_text("MODEL_RATE_LIMITED").first).to_be_visible()
    page.get_by_role("link", name="Turns", exact=True).click()
    failed = page.locator("#turns tr", has_text="failed")
    expect(failed).to_contain_text("MODEL_RATE_LIMITED")
    failed.get_by_role("link").first.click()
    expect(page.get_by_text("echo failed, as echo_fault requests").first).to_be_visible()

    # Question 3: the changes of the session's fork.
    page.get_by_role("link", name="Forks", exact=True).click()
    page.get_by_role("link", name="this session and ada-1-fork").click()
    expect(page.get_by_text("Another question")).to_be_visible()
    expect(page.get_by_text("Where is my parcel?", exact=True)).to_be_visible()
    expect(page.get_by_text("ada, message 3")).to_have_count(0)

    # Question 4: the number of tokens of the longest session of all.
    page.get_by_role("link", name="Sessions", exact=True).first.click()
    page.get_by_role("link", name="most messages first").click()
    longest = page.locator("table.sessions tbody tr").first
    expect(longest).to_contain_text("ada-2")
    headers = page.locator("table.sessions thead th").all_inner_texts()
    tokens = longest.locator("th, td").nth(headers.index("Tokens")).inner_text()
    assert tokens.strip("≈").replace("\u202f", "").isdigit()


def test_the_same_answers_are_found_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    page.reload()
    row = page.locator("table.sessions tbody tr", has_text="ada-2")
    for cell in (row.get_by_text("100", exact=True), row.get_by_text("320", exact=True)):
        box = cell.bounding_box()
        assert box
        assert box["x"] + box["width"] <= 380
    page.locator("table.sessions tbody tr").filter(
        has=page.get_by_text("ada-1", exact=True)
    ).locator("a.title").click()
    # The page says this above the messages, because the failed turn may be far down.
    expect(page.get_by_text("1 turn has no answer")).to_contain_text("MODEL_RATE_LIMITED")
    page.get_by_role("link", name="Turns", exact=True).click()
    reason = page.get_by_text("MODEL_RATE_LIMITED").bounding_box()
    assert reason
    assert reason["x"] + reason["width"] <= 380
    # No turn is running, so there is none to abort.
    expect(page.get_by_role("button", name="Abort the running turn")).to_have_count(0)
    # The page shows two forks below each other. The sessions' ids tell their messages apart.
    page.get_by_role("link", name="Forks", exact=True).click()
    page.get_by_role("link", name="this session and ada-1-fork").click()
    for text, session_id in (("Where is my parcel?", "ada-1"), ("Another question", "ada-1-fork")):
        side = page.locator(".pair > div", has=page.get_by_text(text, exact=True))
        expect(side.locator(".whose")).to_have_text(session_id)
        expect(side.locator(".whose")).to_be_visible()
