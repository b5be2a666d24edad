"""The session list: its filters, orders and pages."""

import re
from urllib.parse import quote

import pytest

from sessiond import AsyncClient
from sessiond.v1.session_service_pb2 import SessionFilter, SessionOrder
from sessiond_console.filters import FIELDS, ORDERS

from .conftest import Browser


def ids(html: str) -> list[str]:
    return re.findall(r'<br><code class="dim">([^<]*)</code>', html)


@pytest.fixture
async def sessions(api: AsyncClient) -> None:
    for i, (user, model, plan) in enumerate([("ada", "m1", "pro"), ("bob", "m1", "free")] * 3):
        session = await api.create_session(
            f"s-{i}", user=user, model=model if i else "m2", metadata={"plan": plan, "n": i}
        )
        for text in range(i):
            await session.store_message({"role": "user", "content": f"words {text} " * (7 - i)})
    await api.sessions.destroy("s-3")


def test_the_form_has_every_filter_and_order_of_the_server() -> None:
    assert len(FIELDS) == len(SessionFilter.DESCRIPTOR.fields)
    names = {name.removeprefix("SESSION_ORDER_").lower() for name in SessionOrder.keys()}  # noqa: SIM118
    assert ORDERS.keys() == names - {"unspecified"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["s-5", "s-4", "s-3", "s-2", "s-1", "s-0"]),
        ("user=ada", ["s-4", "s-2", "s-0"]),
        ("user=ada&model=m1", ["s-4", "s-2"]),
        ("id=s-1", ["s-1"]),
        ("status=destroyed", ["s-3"]),
        ("state=destroyed", ["s-3"]),
        ("meta=plan%3Dpro", ["s-4", "s-2", "s-0"]),
        ("meta=" + quote('{"n": 5}'), ["s-5"]),
        ("created_from=tomorrow", []),
        ("created_from=today&active_before=tomorrow&user=bob", ["s-5", "s-3", "s-1"]),
        ("from=2001-01-01&user=ada", ["s-4", "s-2", "s-0"]),
        ("active_before=2001-01-01T00:00", []),
        ("order=id_asc&user=bob", ["s-1", "s-3", "s-5"]),
        ("order=active_asc&user=ada", ["s-0", "s-2", "s-4"]),
        ("order=created_asc&user=bob", ["s-1", "s-3", "s-5"]),
        ("order=message_count&user=bob", ["s-5", "s-3", "s-1"]),
        ("order=message_count&size=1", ["s-5"]),
    ],
)
async def test_filters_find_what_the_server_finds(
    sessions: None, browser: Browser, query: str, found: list[str]
) -> None:
    shown = ids(await browser.page(f"/sessions?{query}"))
    assert sorted(shown) == sorted(found)
    if "order" in query or not found:
        assert shown == found


async def test_pages_follow_each_other_and_keep_the_filter(
    sessions: None, browser: Browser
) -> None:
    seen: list[str] = []
    path: str | None = "/sessions?size=2&order=id_asc&meta=%7B%7D"
    while path:
        html = await browser.page(path)
        seen += ids(html)
        found = re.search(r'rel="next" href="([^"]*)"', html)
        path = found[1].replace("&amp;", "&") if found else None
    assert seen == [f"s-{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("active_from=soon", "active_from"),
        ("meta=[1]", "must be a JSON object"),
        ("order=best", "order"),
        ("size=0", "from 1 to 500"),
        ("size=9999", "from 1 to 500"),
        ("status=asleep", "status"),
        ("token=x", "INVALID_PAGE_TOKEN"),
        ("id=" + "x" * 3000, "INVALID"),
    ],
)
async def test_malformed_filters_say_what_is_wrong(browser: Browser, query: str, says: str) -> None:
    response = await browser.get(f"/sessions?{query}")
    assert response.status_code == 400
    assert says in response.text


async def test_ranks_say_how_many_sessions_they_compared(sessions: None, browser: Browser) -> None:
    html = await browser.page("/sessions?order=token_count")
    assert "Most tokens first, of 6 sessions" in html


@pytest.mark.parametrize(
    ("to", "path"),
    [
        ("s-1", "/sessions/s-1"),
        ("s-5@3", "/sessions/s-5?at=3#m-3"),
        ("user:ada", "/sessions?user=ada"),
        ("s", "/sessions?id=s"),
        ("x" * 3000, "/sessions?id=" + "x" * 3000),
        ("", "/sessions"),
    ],
)
async def test_the_go_box_finds_a_session_a_seq_or_a_user(
    sessions: None, browser: Browser, to: str, path: str
) -> None:
    response = await browser.get(f"/go?to={quote(to)}")
    assert response.headers["location"] == path


async def test_links_to_days_and_ranks_keep_the_filter(sessions: None, browser: Browser) -> None:
    html = await browser.page("/sessions?user=ada&order=message_count")
    for path in (
        "/sessions?user=ada&amp;order=message_count&amp;active_from=yesterday&amp;active_before=today",
        "/sessions?user=ada&amp;order=token_count",
    ):
        assert f'href="{path}"' in html, path


async def test_an_empty_project_says_how_sessions_appear(browser: Browser) -> None:
    assert "as soon as a program creates one" in await browser.page("/sessions")


async def test_a_server_that_is_down_is_said_so(browser: Browser, server: object) -> None:
    from .conftest import open_console

    async for lost in open_console("127.0.0.1:1"):
        response = await lost.get("/sessions")
        assert response.status_code == 503
        assert "does not answer" in response.text
