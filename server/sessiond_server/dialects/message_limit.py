"""The limit of an API on the number of messages in a request."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from sessiond_server.formats.pieces import JSON
from sessiond_server.formats.report import ChangeKind, Report

Sent: TypeAlias = tuple[JSON, tuple[int, ...]]
"""A message of a request, and the seqs of the stored messages that it is built from."""

# If there are too many messages, the oldest are left out in steps of this number. Successive
# requests therefore mostly begin alike, and the API can use its cache of the earlier request.
OMITTED_AT_ONCE = 512


def limited(
    groups: Sequence[Sequence[Sent]],
    limit: int,
    report: Report,
    *,
    is_instruction: Callable[[JSON], bool],
) -> list[Sent]:
    """Return the messages of a request without the oldest ones, if there are too many.

    A group that alone has too many messages is left out. The newest group that is not an
    instruction stays, unless it alone has too many messages. Instructions are left out only if
    leaving out all older groups is not enough. A note tells how many messages are not sent.

    Args:
        groups: the messages, in groups that are sent together or not at all, such as calls and
            their results. A group without seqs always stays.
        limit: maximum number of messages.
        report: receives the changes.
        is_instruction: whether a message is an instruction.
    """
    excess = sum(map(len, groups)) - limit
    if excess <= 0:
        return [message for group in groups for message in group]
    to_omit = -(-excess // OMITTED_AT_ONCE) * OMITTED_AT_ONCE + 1
    omitted = {place for place, group in enumerate(groups) if len(group) >= limit}
    count = sum(len(groups[place]) for place in omitted)
    stored = [place for place, group in enumerate(groups) if any(seqs for _, seqs in group)]
    said = [place for place in stored if not is_instruction(groups[place][0][0])]
    instructions = [place for place in stored if is_instruction(groups[place][0][0])]
    for place in (*said[:-1], *instructions):
        if count >= to_omit:
            break
        if place not in omitted:
            omitted.add(place)
            count += len(groups[place])
    for place in sorted(omitted):
        for seq in sorted({seq for _, seqs in groups[place] for seq in seqs}):
            report.add(seq, ChangeKind.MESSAGE_OMITTED, "too many messages")
    kept = [m for place, group in enumerate(groups) if place not in omitted for m in group]
    note = f"[the oldest {count} messages: not sent, because there are too many]"
    first = next((i for i, (m, _) in enumerate(kept) if not is_instruction(m)), len(kept))
    kept.insert(first, ({"role": "user", "content": note}, ()))
    return kept
