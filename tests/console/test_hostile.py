"""The hostile corpus in every field of every format: pages never contain it as markup.

tests/console/test_browser.py loads the same pages in a real browser.
"""

from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from sessiond import AsyncClient
from sessiond_console.rendering.text import visible_text

from .conftest import Browser
from .corpus import ALL_IN_ONE, HOSTILE, LONG_LINE, SCRIPTS, as_json, messages_with

FORBIDDEN = {"iframe", "object", "embed", "base", "math", "style", "noscript", "mglyph"}


class Page(HTMLParser):
    """Checks every element of a page while it is read."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        assert tag not in FORBIDDEN, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"style", "srcdoc", "formaction"}, (tag, name)
            if name in ("src", "action", "hx-get"):
                assert value.startswith("/"), (tag, value)
                assert not value.startswith("//"), (tag, value)
            if name == "href":
                self._check_link(tag, value, attributes)
        if tag == "script":
            assert attributes["src"].startswith("/static/")
        if tag == "meta":
            assert "http-equiv" not in attributes
        if tag == "link":
            assert attributes["href"].startswith("/static/")

    def _check_link(self, tag: str, href: str, attributes: dict[str, str]) -> None:
        lowered = unquote(href).strip().lower()
        assert not lowered.startswith(("javascript:", "data:", "vbscript:")), href
        if lowered.startswith(("http:", "https:", "//", "mailto:")):
            assert "noopener" in attributes["rel"]
            assert "noreferrer" in attributes["rel"]
            self.links.append(href)


async def fill(api: AsyncClient, session_id: str, texts: list[str]) -> None:
    session = await api.create_session(
        session_id,
        title=" ".join(SCRIPTS[:12]),
        user="<script>alert(1)</script>",
        metadata={"a": "<b>"},
    )
    for text in texts:
        for format_name, message in messages_with(text):
            await session.store_message(as_json(message), format_name)


async def test_no_field_of_any_format_becomes_markup(api: AsyncClient, browser: Browser) -> None:
    await fill(api, "s", HOSTILE[:12])
    html = await browser.page("/sessions/s?after=0")
    Page(html)
    assert visible_text(html) == html
    Page(await browser.page("/sessions"))


async def test_everything_at_once_becomes_no_markup(api: AsyncClient, browser: Browser) -> None:
    await fill(api, "s", [ALL_IN_ONE, *HOSTILE[12:16]])
    html = await browser.page("/sessions/s?after=0")
    Page(html)
    assert visible_text(html) == html
    info = await api.sessions.get("s")
    for seq in range(1, min(info.last_seq, 20) + 1):
        Page(await browser.page(f"/sessions/s/messages/{seq}"))


async def test_lines_of_5_mb_are_cut_in_every_format(api: AsyncClient, browser: Browser) -> None:
    session = await api.create_session("s")
    for format_name, message in (
        ("openai", {"role": "user", "content": LONG_LINE}),
        ("openai", {"role": "tool", "tool_call_id": "c", "content": LONG_LINE}),
        ("anthropic", {"role": "user", "content": [{"type": "text", "text": LONG_LINE}]}),
        ("gemini", {"role": "model", "parts": [{"functionCall": {"args": {"a": LONG_LINE}}}]}),
    ):
        await session.store_message(as_json(message), format_name)
    for seq in range(1, 5):
        html = await browser.page(f"/sessions/s?after={seq - 1}")
        Page(html)
        assert len(html) < 2_000_000
        html = await browser.page(f"/sessions/s/messages/{seq}")
        Page(html)
        assert len(html) < 4_000_000


@pytest.mark.parametrize("path", ["/sessions?user={}", "/sessions?meta={}", "/sessions/{}", "/{}"])
async def test_hostile_addresses_become_no_markup(browser: Browser, path: str) -> None:
    for text in HOSTILE[:24]:
        response = await browser.get(path.format("".join(f"%{byte:02x}" for byte in text.encode())))
        Page(response.text)
        assert response.status_code < 500
