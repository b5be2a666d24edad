"""Shortens texts, and makes characters visible that would otherwise deceive a reader."""

import re

from markupsafe import Markup, escape

MAX_TEXT_CHARACTERS = 64 * 1024
"""How much of one text a page shows; the raw view has the rest."""

# Characters that hide, reorder or fake text: C0 and C1 controls except tab and line feed, soft
# hyphen, bidirectional controls, zero-width characters and line separators. Also the tags block and
# the supplementary variation selectors, which can carry a second, invisible text. Some scripts and
# emoji need ZWNJ and ZWJ (200C, 200D), so these are marked between ASCII characters only.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
    "|(?<=[\x00-\x7f])[\u200c\u200d](?=[\x00-\x7f])|[\ud800-\udfff]"
)


def visible_text(text: str) -> str:
    """Return the text with a mark such as ⟨U+202E⟩ in place of each deceptive character.

    A carriage return before a line feed is dropped: it is the line end of Windows.
    """
    return _HIDDEN.sub(lambda found: f"⟨{name_of(found[0])}⟩", text.replace("\r\n", "\n"))


def visible(text: str) -> Markup:
    """Return HTML of the text with a highlighted mark in place of each deceptive character."""
    parts: list[Markup] = []
    end = 0
    text = text.replace("\r\n", "\n")
    for found in _HIDDEN.finditer(text):
        parts.append(escape(text[end : found.start()]))
        parts.append(Markup('<span class="mark">{}</span>').format(name_of(found[0])))
        end = found.end()
    parts.append(escape(text[end:]))
    return Markup("").join(parts)


def one_line(text: str, limit: int = 160) -> str:
    """Return a text as one line of at most `limit` characters, with deceptive characters marked."""
    line = " ".join(text[: limit * 4].split())
    line, omitted = shortened(line, limit)
    return visible_text(line) + ("…" if omitted or len(text) > limit * 4 else "")


def shortened(text: str, limit: int) -> tuple[str, int]:
    """Return at most `limit` characters of a text, and how many were left out."""
    return (text, 0) if len(text) <= limit else (text[:limit], len(text) - limit)


def name_of(character: str) -> str:
    """Return the code point of a character, e.g. "U+202E"."""
    return f"U+{ord(character):04X}"
