"""The transcript: pages, deep links, search, ids of any characters, raw bytes and files."""

import json
import re

import pytest

from sessiond import AsyncClient, NewMessage
from sessiond_console.paths import session_path

from .conftest import Browser


def seqs(html: str) -> list[int]:
    return [int(seq) for seq in re.findall(r'<article [^>]*data-seq="(\d+)"', html)]


@pytest.fixture
async def long_session(api: AsyncClient) -> str:
    session = await api.create_session("long")
    texts = [{"role": "user", "content": f"message number {i}"} for i in range(1, 351)]
    await session.store_messages(texts)
    return "/sessions/long"


async def test_the_newest_page_comes_first_and_leads_to_all_others(
    long_session: str, browser: Browser
) -> None:
    html = await browser.page(long_session)
    seen = [seqs(html)]
    while found := re.search(r'rel="prev" href="([^"]*)"', html):
        html = await browser.page(found[1].replace("&amp;", "&"))
        seen.insert(0, seqs(html))
    assert [len(page) for page in seen] == [50, 100, 100, 100]
    assert [seq for page in seen for seq in page] == list(range(1, 351))


async def test_pages_from_the_beginning_lead_to_the_end(
    long_session: str, browser: Browser
) -> None:
    html = await browser.page(f"{long_session}?after=0")
    seen = seqs(html)
    assert "Earlier messages" not in html
    while found := re.search(r'rel="next" href="([^"]*)"', html):
        html = await browser.page(found[1])
        seen += seqs(html)
    assert seen == list(range(1, 351))


@pytest.mark.parametrize("seq", [1, 60, 200, 350])
async def test_deep_links_show_their_message(long_session: str, browser: Browser, seq: int) -> None:
    assert seq in seqs(await browser.page(f"{long_session}?at={seq}"))


async def test_a_part_for_htmx_is_the_messages_alone(long_session: str, browser: Browser) -> None:
    response = await browser.get(f"{long_session}?before=101", **{"HX-Request": "true"})
    assert seqs(response.text) == list(range(1, 101))
    assert "<html" not in response.text


@pytest.mark.parametrize("query", ["at=x", "before=-1", "after=1.5", "at=99999999999999999999"])
async def test_malformed_seqs_are_refused(long_session: str, browser: Browser, query: str) -> None:
    response = await browser.get(f"{long_session}?{query}")
    assert response.status_code == 400
    assert "seq of a message" in response.text


async def test_search_finds_texts_and_arguments_of_calls(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session("s")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"q":"zürich"}'}}
    await session.store_messages(
        [
            {"role": "user", "content": "Fly to ZÜRICH"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "user", "content": "thanks"},
        ]
    )
    assert seqs(await browser.page("/sessions/s?q=z%C3%BCrich")) == [1, 2]
    assert "No message has this text" in await browser.page("/sessions/s?q=geneva")


async def test_roles_filter_the_messages(api: AsyncClient, browser: Browser) -> None:
    session = await api.create_session("s")
    for role in ("user", "assistant", "user"):
        await session.store_message({"role": role, "content": "x"})
    assert seqs(await browser.page("/sessions/s?role=assistant&role=nobody")) == [2]


@pytest.mark.parametrize(
    "session_id",
    [
        "a/b",
        "..",
        ".",
        "~..",
        "~",
        "a b?c#d&e=f%2F",
        "tree",
        "é/日本",
        "<script>",
        "a\\b",
        "%2e%2e",
    ],
)
async def test_ids_of_any_characters_have_a_page(
    api: AsyncClient, browser: Browser, session_id: str
) -> None:
    session = await api.create_session(session_id)
    await session.store_message({"role": "user", "content": "here I am"})
    path = session_path(session_id)
    assert "/../" not in f"{path}/"
    assert "here I am" in await browser.page(path)
    assert "here I am" in await browser.page(session_path(session_id, "messages", 1))
    listed = await browser.page("/sessions")
    assert f'href="{path}"' in listed


RAW = (
    '{ "role":"user",\n "content" : "caf\\u00e9 \\ud800 1.50", '
    '"n": 1e300, "x": 12345678901234567890 }'
)


async def test_raw_bytes_are_exact(api: AsyncClient, browser: Browser) -> None:
    session = await api.create_session("s")
    await session.store_message(RAW, "openai")
    response = await browser.get("/sessions/s/messages/1/json")
    assert response.content == RAW.encode()
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"].startswith("attachment")
    html = await browser.page("/sessions/s/messages/1")
    assert "1e300" in html
    assert "12345678901234567890" in html


async def test_files_in_messages_are_shown_or_downloaded(
    api: AsyncClient, browser: Browser
) -> None:
    png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="
    svg = "data:image/png;base64,PHN2Zz48L3N2Zz4="
    session = await api.create_session("s")
    await session.store_message(
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": png}},
                {"type": "image_url", "image_url": {"url": svg}},
                {"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}},
            ],
        }
    )
    html = await browser.page("/sessions/s")
    assert 'src="/sessions/s/messages/1/files/0"' in html
    assert "evil.example" in html
    assert 'src="https://' not in html
    first = await browser.get("/sessions/s/messages/1/files/0")
    assert first.headers["content-type"] == "image/png"
    assert first.headers["content-security-policy"] == "sandbox; default-src 'none'"
    second = await browser.get("/sessions/s/messages/1/files/1")
    assert second.headers["content-disposition"].startswith("attachment")
    for index in ("2", "9", "x"):
        status = (await browser.get(f"/sessions/s/messages/1/files/{index}")).status_code
        assert status in (400, 404)


async def test_large_messages_end_a_page_early_and_are_cut(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session("s")
    for _ in range(3):
        await session.store_message(
            {"role": "tool", "tool_call_id": "c", "content": "y" * 3_000_000}
        )
    html = await browser.page("/sessions/s")
    assert seqs(html) == [3]
    assert "more characters" in html
    assert len(html) < 200_000
    found = re.search(r'rel="prev" href="([^"]*)"', html)
    assert found
    assert seqs(await browser.page(found[1])) == [2]


async def test_markers_show_bookmarks_forks_branches_and_metadata(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session("s")
    await session.store_messages([{"role": "user", "content": str(i)} for i in range(3)])
    message = {"role": "assistant", "content": "other"}
    await session.store_messages([NewMessage(message, parent_seq=1, metadata={"label": "x"})])
    await session.bookmarks.create("here", seq=2)
    await session.copy("fork", up_to_seq=1)
    html = await browser.page("/sessions/s")
    assert 'Bookmark <a href="/sessions/s/bookmarks">here</a>' in html
    assert 'Copied here: <a href="/sessions/fork">fork</a>' in html
    assert "branch of #1" in html
    assert json.dumps({"label": "x"}, indent=2).replace('"', "&#34;") in html
    fork = await browser.page("/sessions/fork")
    assert 'copied from <a href="/sessions/s?at=1#m-1">' in fork
    assert 'href="/sessions/fork/compare?with=s">what changed</a>' in fork


async def test_missing_sessions_and_messages_are_not_found(
    api: AsyncClient, browser: Browser
) -> None:
    await api.create_session("s")
    for path, reason in (
        ("/sessions/none", "SESSION_NOT_FOUND"),
        ("/sessions/s/messages/1", "MESSAGE_NOT_FOUND"),
        ("/sessions/none/messages/1/json", "SESSION_NOT_FOUND"),
    ):
        response = await browser.get(path)
        assert response.status_code == 404
        assert reason in response.text


async def test_messages_of_other_programs_and_their_ids_are_shown(
    api: AsyncClient, browser: Browser
) -> None:
    session = await api.create_session("s")
    entry = {"type": "assistant", "message": {"content": [{"type": "text", "text": "**hi**"}]}}
    await session.store_messages(
        [NewMessage(entry, format="other", format_name="claude-code", message_id="entry-7")]
    )
    html = await browser.page("/sessions/s")
    assert "<strong>hi</strong>" in html
    html = await browser.page("/sessions/s/messages/1")
    assert "format claude-code" in html
    assert "entry-7" in html
