"""The console in a real browser: every page, its actions, and its accessibility by axe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sessiond import Client, NewMessage

from ..support.conversations import made_up_conversations
from ..support.databases import Databases, url_of
from ..support.processes import ServerProcess
from .browsing import (
    Site,
    axe_source,
    running_chromium,
    running_console,
    serious_faults,
    watched,
)

PAGES = [
    "/sessions",
    "/sessions?order=token_count&user=ada",
    "/sessions/support",
    "/sessions/support?q=refund",
    "/sessions/support/messages/2",
    "/sessions/support/turns",
    "/sessions/support/tree",
    "/sessions/support/compare?with=support-fork",
    "/sessions/support/tokens",
    "/sessions/support/context",
    "/sessions/support/tasks",
    "/sessions/support/bookmarks",
    "/sessions/support/settings",
    "/sessions/library-007",
    "/delete-sessions?user=ada",
    "/queues",
    "/queues/index?session=support",
    "/projects",
    "/projects/shop",
    "/server",
    "/login",
    "/nowhere",
    "/sessions/none",
]


def fill(client: Client) -> None:
    for conversation in made_up_conversations()[:20]:
        session = client.create_session(conversation["session_id"], user="ada", model="echo")
        session.store_messages(conversation["messages"])
    support = client.create_session(
        "support", user="ada", model="echo", title="Refund of order 42", metadata={"plan": "pro"}
    )
    support.send_and_wait(
        "I want a refund", options={"echo_text": "**Which** order?\n\n- 41\n- 42"}
    )
    with pytest.raises(Exception, match="MODEL_RATE_LIMITED"):
        support.send_and_wait("42", options={"echo_fault": "MODEL_RATE_LIMITED"})
    support.store_messages([NewMessage({"role": "user", "content": "branch"}, parent_seq=2)])
    support.bookmarks.create("agreed", seq=2)
    support.tasks.create(task_id="pay", status="running", data={"order": 42}, message_seqs=[1])
    fork = support.copy("support-fork", up_to_seq=2)
    fork.send_and_wait("Cancel it")
    leases = client.processing.lease("index", max_messages=2)
    for lease in leases:
        client.processing.acknowledge(lease, failures={lease.first_seq: "it broke"})
    client.admin.create_project("shop")
    client.admin.create_api_key("shop", label="till")


@pytest.fixture(scope="module")
def site(
    postgres: str, template: str, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A server with sessions of all kinds, and a console in front of it."""
    name = databases.create(template)
    url = url_of(postgres, name)
    log = tmp_path_factory.mktemp("server") / "server.log"
    server = ServerProcess((), {"SESSIOND_DATABASE_URL": url}, log)
    try:
        server.wait_until_ready()
        with Client(server.target) as client, running_console(server.target) as (address, console):
            fill(client)
            yield Site(server, address, client, console)
    finally:
        server.end()
        databases.leave(name)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def page(site: Site, chromium: Browser) -> Iterator[Page]:
    with watched(chromium, site.url) as found:
        yield found.page()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return axe_source(Path(tmp_path_factory.mktemp("axe")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: Site, chromium: Browser, axe: str, scheme: str) -> None:
    with watched(chromium, site.url, color_scheme=scheme, bypass_csp=True) as found:
        tab = found.page()
        faults = {}
        for path in PAGES:
            tab.goto(path)
            if "/sessions/" in path:
                tab.keyboard.press("e")
            if serious := serious_faults(tab, axe):
                faults[path] = serious
        assert not faults


def test_no_page_is_wider_than_a_phone(site: Site, chromium: Browser) -> None:
    with watched(chromium, site.url, viewport={"width": 380, "height": 700}) as found:
        tab = found.page()
        for path in PAGES:
            tab.goto(path)
            width = tab.evaluate("document.documentElement.scrollWidth")
            assert width <= 380, (path, width)


def test_pages_can_be_read_without_javascript(site: Site, chromium: Browser) -> None:
    with watched(chromium, site.url, java_script_enabled=False) as found:
        tab = found.page()
        tab.goto("/sessions?user=ada")
        tab.locator('a[data-open][href="/sessions/support"]').click()
        tab.get_by_role("link", name="Turns").click()
        expect(tab.get_by_text("MODEL_RATE_LIMITED")).to_be_visible()
        tab.locator("#theme").select_option("dark")
        tab.get_by_role("button", name="Set", exact=True).click()
        expect(tab.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_list_is_live(site: Site, page: Page) -> None:
    page.goto("/sessions?id=live-")
    expect(page.get_by_text("No session meets the filter")).to_be_visible()
    site.client.create_session("live-1", title="Just arrived")
    expect(page.get_by_role("link", name="Just arrived")).to_be_visible()


def test_a_prompt_is_sent_streamed_and_aborted(site: Site, page: Page) -> None:
    site.client.create_session("chat", model="echo")
    page.goto("/sessions/chat")
    page.get_by_label("prompt", exact=True).fill("Hello")
    page.get_by_label("options of the model").fill('{"echo_text": "one two three"}')
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("article.assistant")).to_contain_text("one two three")
    page.get_by_text("Send a prompt").click()
    page.get_by_label("prompt", exact=True).fill("And now slowly")
    words = "start " + "word " * 2000
    options = f'{{"echo_text": "{words.strip()}", "echo_delay_ms": 40}}'
    page.get_by_label("options of the model").fill(options)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("article.user").last).to_contain_text("And now slowly")
    expect(page.locator(".answer")).to_contain_text("word word")
    page.get_by_text("Send a prompt").click()
    page.get_by_role("button", name="Abort the running turn").click()
    expect(page.get_by_role("status")).to_contain_text("The turn is aborted.")
    page.get_by_role("link", name="Transcript").click()
    expect(page.get_by_text("partial answer").first).to_be_visible()


def test_the_keyboard_moves_unfolds_and_acts(site: Site, page: Page) -> None:
    page.goto("/sessions/library-007?after=0")
    page.keyboard.press("j")
    expect(page.locator(".current")).to_have_attribute("data-seq", "1")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator(".current")).to_have_attribute("data-seq", "2")
    page.keyboard.press("k")
    page.keyboard.press("o")
    expect(page.locator("#m-1 details").first).to_have_attribute("open", "")
    page.keyboard.press("e")
    folded = "details:not([open])"
    assert page.locator(f"#messages {folded}").count() == 0
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    expect(page.locator("#at")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.type("by key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="by key")).to_be_visible()
    marks = site.client.bookmarks.list("library-007")
    assert [(mark.name, mark.seq) for mark in marks] == [("by key", 1)]
    page.wait_for_load_state()
    page.keyboard.press("Control+k")
    page.keyboard.type("support@2")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions/support?at=2#m-2")
    page.wait_for_load_state()
    page.keyboard.press("j")
    page.keyboard.press("r")
    page.wait_for_url("**/messages/*")


def test_a_copy_is_made_by_key(site: Site, page: Page) -> None:
    page.goto("/sessions/support")
    for _ in range(2):
        page.keyboard.press("j")
    page.keyboard.press("c")
    page.keyboard.type("by-key")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sessions/by-key?note=copied")
    assert site.client.sessions.get("by-key").last_seq == 2


def test_earlier_messages_are_loaded_into_the_page(site: Site, page: Page) -> None:
    session = site.client.create_session("many")
    session.store_messages([{"role": "user", "content": f"m{i}"} for i in range(1, 251)])
    page.goto("/sessions/many")
    assert page.locator("article.message").count() == 100
    page.get_by_role("link", name="Earlier messages").click()
    expect(page.locator("#m-51")).to_be_attached()
    page.get_by_role("link", name="Earlier messages").click()
    expect(page.locator("#m-1")).to_be_attached()
    seqs = page.locator("article.message").evaluate_all("all => all.map((e) => +e.dataset.seq)")
    assert seqs == list(range(1, 251))
    assert "before" not in page.url


def test_settings_conflicts_and_deletions_are_shown(site: Site, page: Page) -> None:
    session = site.client.create_session("edited", title="first")
    page.goto("/sessions/edited/settings")
    session.update(title="second")
    page.get_by_label("title").fill("third")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody else has changed")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("Saved.")
    assert site.client.sessions.get("edited").title == "third"
    page.get_by_label("Type the id to delete").fill("edited")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status")).to_contain_text("Deleted.")


def test_tasks_queues_and_keys_are_changed(site: Site, page: Page) -> None:
    page.goto("/sessions/support/tasks")
    page.get_by_text("Change", exact=True).click()
    page.locator("article.task select").first.select_option("success")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("article.task .badge")).to_have_text("success")
    page.goto("/projects/shop")
    page.get_by_label("label").fill("door")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("status")).to_contain_text("sk-sessiond-")
    page.get_by_role("button", name="Revoke the key").first.click()
    expect(page.get_by_role("status")).to_contain_text("The key is revoked")


def test_the_exact_bytes_are_copied(site: Site, chromium: Browser) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    with watched(chromium, site.url, permissions=permissions) as found:
        tab = found.page()
        tab.goto("/sessions/support/messages/1")
        tab.get_by_role("button", name="Copy the exact bytes").click()
        expect(tab.get_by_role("button", name="Copied")).to_be_visible()
        copied = tab.evaluate("navigator.clipboard.readText()")
        assert copied == site.client.sessions.get_message("support", 1).json
