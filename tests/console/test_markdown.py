"""Hostile Markdown becomes harmless HTML."""

import time
from html.parser import HTMLParser

import pytest

from sessiond_console.rendering.markdown import MAX_MARKDOWN_CHARACTERS, to_html
from sessiond_console.rendering.text import one_line, visible, visible_text

from .corpus import DECEPTIVE, MARKDOWN, SCRIPTS

ALLOWED_ATTRIBUTES = {"href", "title", "rel", "target", "src", "alt", "class", "start"}


class Elements(HTMLParser):
    """Collects the elements of a fragment."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))


@pytest.mark.parametrize("text", [*SCRIPTS, *MARKDOWN])
def test_hostile_markdown_is_harmless(text: str) -> None:
    for tag, attributes in Elements(str(to_html(text))).found:
        assert tag not in {"script", "style", "iframe", "object", "svg", "form", "input", "base"}
        assert attributes.keys() <= ALLOWED_ATTRIBUTES, (tag, attributes)
        if tag == "img":
            assert attributes.get("src", "/assets/").startswith("/assets/")
        if tag == "a":
            href = attributes.get("href", "https:")
            assert href.startswith(("http:", "https:", "mailto:", "/", "#")) or ":" not in href
            assert "noopener" in attributes["rel"]
            assert attributes["target"] == "_blank"


def test_remote_images_become_links_that_name_their_host() -> None:
    html = str(to_html("![chart](https://evil.example/p.png?q=secret)"))
    assert "<img" not in html
    assert "image at evil.example: chart" in html


def test_images_of_assets_are_shown() -> None:
    html = str(to_html(f"![chart](sessiond-asset:{'a' * 64})"))
    assert f'<img src="/assets/{"a" * 64}" alt="chart"' in html


def test_a_link_says_where_it_leads() -> None:
    html = str(to_html("[https://bank.example](https://evil.example/)"))
    assert 'title="https://evil.example/"' in html


@pytest.mark.parametrize("character", DECEPTIVE)
def test_deceptive_characters_are_marked_everywhere(character: str) -> None:
    name = f"U+{ord(character):04X}"
    text = f"a{character}b"
    for shown in (visible_text(text), str(visible(text)), one_line(text), str(to_html(text))):
        assert character not in shown
        if character not in "\x1c\x1d\x1e\x1f\x85\u2028\u2029\x0b\x0c\r" or shown != one_line(text):
            assert name in shown


def test_joiners_of_emoji_and_scripts_stay() -> None:
    family = "👩‍👩‍👧"
    assert visible_text(family) == family


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000,
        "*a_" * 20_000,
        "> " * 30_000,
        "`" * 60_000,
        "![[]()" * 10_000,
        "<a " * 20_000,
        "- " * 30_000,
        "a\n" * 30_000,
        "|a" * 30_000 + "\n" + "|-" * 30_000,
        "x" * 5_000_000,
    ],
    ids=lambda text: text[:8],
)
def test_no_markdown_takes_long(text: str) -> None:
    # CPU time, not wall-clock time, so that a busy machine does not fail the test.
    before = time.process_time()
    html = to_html(text)
    assert time.process_time() - before < 10
    assert html
    if len(text) > MAX_MARKDOWN_CHARACTERS:
        assert html.startswith('<div class="plain">')
