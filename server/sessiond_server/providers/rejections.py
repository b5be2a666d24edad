"""Explains a provider's rejection in terms of the stored messages that it concerns."""

import re
from collections.abc import Sequence

from sessiond_server.dialects.request import FittedRequest
from sessiond_server.formats.report import Report, UnsendableHistory

# "messages[7]", "messages.7.content.0", "messages.[7].role", "input[3]", "contents[2].parts".
_PLACE = re.compile(r"\b(?:messages|input|contents)(?:\.?\[|\.)(\d{1,6})\b")
MAX_PLACES = 5
MAX_CHANGES = 4


def seqs_of(fitted: FittedRequest | None, *texts: object) -> list[int]:
    """Return the seqs of the messages that a provider refers to by their position in the request.

    Args:
        fitted: the request. None = not created yet.
        texts: the provider's statements.
    """
    sources = fitted.seqs if fitted else []
    places = [
        int(match[1]) for text in texts if isinstance(text, str) for match in _PLACE.finditer(text)
    ]
    seqs = {
        seq: None
        for place in dict.fromkeys(places)
        if place < len(sources)
        for seq in sources[place]
        if seq
    }
    return sorted([*seqs][:MAX_PLACES])


def explain(seqs: Sequence[int], report: Report) -> str:
    """Return text that says which messages were rejected, how they were changed, and what to do.

    Args:
        seqs: the seqs of the messages. [] = the provider named no stored message.
        report: the changes that the request made.
    """
    changes = [change for change in report if not seqs or change.seq in seqs]
    told = [
        (f"seq {change.seq}: " if change.seq and len(seqs) != 1 else "")
        + change.kind.name.lower()
        + (f" ({change.detail[:40]})" if change.detail else "")
        for change in changes[:MAX_CHANGES]
    ]
    if len(changes) > MAX_CHANGES:
        told.append(f"{len(changes) - MAX_CHANGES} more")
    changed = f"changed for the request: {', '.join(told)}" if told else ""
    if not seqs:
        return f" [{changed}]" if changed else ""
    return f" [{_named(seqs)}{f'; {changed}' if changed else ''}; {_cure(seqs)}]"


def explain_unsendable(error: UnsendableHistory) -> str:
    """Return text that says why nothing can be sent, and what to do."""
    return f"{error.message}; {_cure(error.seqs)}" if error.seqs else error.message


def _named(seqs: Sequence[int]) -> str:
    if len(seqs) == 1:
        return f"this is message seq {seqs[0]}"
    return f"these are the messages seq {', '.join(map(str, seqs))}"


def _cure(seqs: Sequence[int]) -> str:
    before = min(seqs) - 1
    first = f"rewind the session to seq {before}, copy it up to seq {before}"
    if not before:
        first = "begin a new session"
    what = "the message" if len(seqs) == 1 else "the messages"
    return f"{first}, or leave {what} out by config.context"
