"""Ids of sessions and messages that are made from other programs' ids."""

import hashlib
import re
from urllib.parse import quote

from sessiond.errors import invalid_field

# The server's limits, in characters.
MAX_ID = 1_024
MAX_MESSAGE_ID = 256
# Control characters, and halves of surrogate pairs.
UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Characters that JavaScript's encodeURIComponent() keeps, as in ids of the TypeScript adapters.
_SAFE = "-_.!~*'()"


def part(text: str, most: int, field: str) -> str:
    """Return a text as one part of a session id: percent-encoded, without "/".

    Args:
        text: the text.
        most: maximum length of the part in characters, at least 100. The end of a longer part is
            replaced by "$" and a hash, so that different texts always give different parts.
        field: the text's name, for errors.

    Raises:
        InvalidField: if the text is empty or not valid Unicode.
    """
    if not isinstance(text, str) or not text:
        raise invalid_field(field, f"is {text!r:.60}; it must be a string")
    try:
        encoded = quote(text, safe=_SAFE)
    except UnicodeEncodeError:
        raise invalid_field(field, f"is {text!r:.60}, which is not valid Unicode") from None
    if len(encoded) <= most:
        return encoded
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{encoded[: most - len(digest) - 1]}${digest}"


def message_id(text: str) -> str:
    """Return the message_id for the id that a program gave a message: that id, or its hash.

    The id is hashed if it is too long, is not valid Unicode or has control characters.
    """
    if len(text) <= MAX_MESSAGE_ID and not UNFIT.search(text):
        return text
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
