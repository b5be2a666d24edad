"""Markdown of transcripts as safe HTML.

markdown-it escapes raw HTML and refuses dangerous links. nh3 then removes everything that is not
expected, so that a fault in one of the two libraries does no harm. No image is loaded from another
host, because the request would reveal to that host when the transcript is read.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from sessiond_console.paths import asset_path
from sessiond_console.rendering.text import visible_text

ASSET_PREFIX = "sessiond-asset:"
# Deeper nesting of quotes and lists is shown as text. Parsing costs time for each level.
MAX_NESTING = 20
# Longer texts are shown as plain text: the parser would block the page for seconds.
MAX_MARKDOWN_CHARACTERS = 32 * 1024
MAX_LINES = 2000
# A line of this length is no prose, and some patterns in it take the parser quadratic time.
MAX_LINE_CHARACTERS = 8 * 1024

_TAGS = {
    *("p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "a", "img", "span"),
    *("ul", "ol", "li", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}}
_ATTRIBUTE_VALUES = {"span": {"class": {"remote"}}}
_SCHEMES = {"http", "https", "mailto"}


def to_html(text: str) -> Markup:
    """Return sanitized HTML of Markdown; plain text in <pre> if it is too long to parse.

    Deceptive characters are marked, raw HTML is shown as text, and remote images become links.
    """
    text = visible_text(text)
    lines = text.split("\n")
    if (
        len(text) > MAX_MARKDOWN_CHARACTERS
        or len(lines) > MAX_LINES
        or max(map(len, lines)) > MAX_LINE_CHARACTERS
    ):
        return Markup('<div class="plain">{}</div>').format(text)
    html = nh3.clean(
        _parser.render(text),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        tag_attribute_values=_ATTRIBUTE_VALUES,
        attribute_filter=_filtered,
        set_tag_attribute_values={"a": {"target": "_blank"}},
        url_schemes=_SCHEMES,
        link_rel="noopener noreferrer nofollow",
        strip_comments=True,
    )
    return Markup(html)  # noqa: S704 - sanitized above


def host_of(uri: str) -> str:
    """Return the host of a URI, or the beginning of the URI if it has none."""
    try:
        return urlsplit(uri).hostname or uri[:80]
    except ValueError:
        return uri[:80]


def is_web(uri: str) -> bool:
    """Return whether a URI may be a link."""
    return uri.lower().startswith(("http://", "https://"))


def _filtered(tag: str, attribute: str, value: str) -> str | None:
    """Keep only what a link or an image of this console needs."""
    if tag == "img" and attribute == "src":
        return value if value.startswith("/assets/") else None
    return value


def _image(
    self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, environment: Any
) -> str:
    source = str(tokens[at].attrGet("src") or "")
    alternative = self.renderInlineAsText(tokens[at].children or [], options, environment)
    if source.startswith(ASSET_PREFIX):
        path = asset_path(source.removeprefix(ASSET_PREFIX))
        return f'<img src="{escape(path)}" alt="{escape(alternative or "image")}">'
    label = f"image at {host_of(source)}" + (f": {alternative}" if alternative else "")
    if not is_web(source):
        return f'<span class="remote">{escape(label)}</span>'
    return f'<a href="{escape(source)}" title="{escape(source)}">{escape(label)}</a>'


def _link_open(
    self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, environment: Any
) -> str:
    # The text of a link may show an address other than its target.
    tokens[at].attrSet("title", str(tokens[at].attrGet("href") or ""))
    return self.renderToken(tokens, at, options, environment)


def _heading(
    self: RendererHTML, tokens: Sequence[Token], at: int, options: Any, environment: Any
) -> str:
    # The page itself has the headings of levels 1 and 2.
    level = min(6, int(tokens[at].tag[1:]) + 2)
    return f"<{'/' if tokens[at].nesting < 0 else ''}h{level}>"


def _asset_links(url: str) -> bool:
    return url.startswith(ASSET_PREFIX) or _is_valid_link(url)


_parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
_parser.enable(["table", "strikethrough"])
_is_valid_link = _parser.validateLink
_parser.validateLink = _asset_links  # type: ignore[method-assign]
_parser.add_render_rule("image", _image)
_parser.add_render_rule("link_open", _link_open)
_parser.add_render_rule("heading_open", _heading)
_parser.add_render_rule("heading_close", _heading)
