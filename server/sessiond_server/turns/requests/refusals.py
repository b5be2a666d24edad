"""Recognises Sends whose requests would be too large, before their turns start.

To learn the size of a request, the server must create the request, which takes long if the history
has many messages. A caller that sends again and again would therefore slow down other calls. So a
turn fails at once, without a request, in two cases. Either the stored size of the history alone is
too large. Or the assets of an earlier request of the session were too large, and a new request
would contain all of these assets.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sessiond.v1.message_pb2 import FORMAT_OTHER, ROLE_USER, Message
from sessiond_server.core.errors import Fault
from sessiond_server.formats.pieces import Text
from sessiond_server.formats.read import read
from sessiond_server.messages.store.history import LogHead
from sessiond_server.providers.base import Provider, RequestTooLarge
from sessiond_server.providers.routing import Models
from sessiond_server.turns.errors import fault_of_model, history_too_large
from sessiond_server.turns.requests.context import Context, policy_of
from sessiond_server.turns.requests.window import WindowUse
from sessiond_server.turns.sending import Sending
from sessiond_server.turns.state import RunningTurn, Source
from sessiond_server.turns.store.openings import Opening
from sessiond_server.turns.store.rows import NewTurn, changes_of

MAX_SESSIONS = 1_000
# A dialect leaves out the oldest messages of a request that has more messages than its API accepts.
# The lowest limit of an API is 2,048 messages. A request near that limit is created and measured.
MAX_MESSAGES = 1_900
# How many Sends are refused after one measured request. Each of them may add a message.
MAX_REFUSALS = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of a Send.

    Attributes:
        fault: the error of the turn.
        changes: the first changes of the request; None = there are none.
        change_count: number of the changes of the request.
    """

    fault: Fault
    changes: list[tuple[int, str, str]] | None = None
    change_count: int = 0


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A session whose last request was too large because of its assets.

    Attributes:
        source: what determined the request.
        provider: the provider that the model had.
        last_seq: seq of the last message of the request. It was the session's newest message.
        ends_with_text: whether that message is a plain text.
        refusal: the refusal of a request that contains all assets of the remembered request.
        window: the use of the window's limits; None = there is no window.
        left: how many more Sends are refused like this.
    """

    source: Source
    provider: Provider
    last_seq: int
    ends_with_text: bool
    refusal: Refusal
    window: WindowUse | None
    left: int


class Refusals:
    """The Sends that this process can refuse at once.

    Args:
        max_context_bytes: maximum size of the history that a turn sends.
    """

    def __init__(self, models: Models, *, max_context_bytes: int) -> None:
        self._models = models
        self._max_context_bytes = max_context_bytes
        # The remembered sessions, by their log.
        self._remembered: OrderedDict[UUID, _Remembered] = OrderedDict()

    def find(self, sending: Sending, opening: Opening, turn: NewTurn) -> Refusal | None:
        """Return the refusal of a Send; None if the request must be created to know its size.

        The refusal holds only as long as the session has the last_seq, the epoch and the revision
        of `opening`.
        """
        head = opening.head
        continues_newest = not (turn.parent_seq or turn.append.parents)
        is_current = sending.expected_epoch in (None, head.epoch)
        if sending.is_immediate or not (continues_newest and is_current and turn.append.is_plain):
            return None
        return self._of_history(sending, opening, turn) or self._of_assets(opening, turn)

    def _of_history(self, sending: Sending, opening: Opening, turn: NewTurn) -> Refusal | None:
        """Refuse a Send if its history is too large by the size that is stored with the session."""
        content_bytes = opening.head.content_bytes + turn.append.totals.content_bytes
        if content_bytes <= self._max_context_bytes or opening.head.is_branched:
            return None
        if policy_of(opening.config).limits:
            return None
        return Refusal(
            history_too_large(sending.session_id, content_bytes, self._max_context_bytes)
        )

    def _of_assets(self, opening: Opening, turn: NewTurn) -> Refusal | None:
        """Refuse a request that only adds text to a remembered one."""
        head = opening.head
        known = self._remembered.get(head.log)
        if (
            known is None
            or known.left == 0
            or known.last_seq != head.last_seq
            or known.source != source_of(head, opening.revision, turn)
            or known.provider is not self._models.route(turn.model).provider
            or (turn.rows and not (known.ends_with_text and _are_texts(_messages_of(turn))))
        ):
            return None
        # A new window may begin after the messages with the assets, and thus not contain them.
        if known.window and not _window_after(known.window, turn):
            return None
        return known.refusal

    def refused(self, log: UUID, last_seq: int, turn: NewTurn) -> None:
        """Note that the turn of a Send was refused, and that its session is now at last_seq."""
        if known := self._remembered.get(log):
            window = known.window and _window_after(known.window, turn)
            self._remembered[log] = replace(
                known, last_seq=last_seq, window=window, left=known.left - 1
            )

    def remember(
        self, running: RunningTurn, source: Source, context: Context, too_large: RequestTooLarge
    ) -> None:
        """Remember that the request of a turn was too large, if its assets alone are too large.

        Args:
            running: the turn.
            source: what determined the request.
            context: the messages of the request.
            too_large: the refusal of the request.
        """
        if too_large.repeated is None or too_large.message_count > MAX_MESSAGES:
            return
        changes, change_count = changes_of(running.report)
        self._remembered[running.log] = _Remembered(
            source,
            self._models.route(running.model).provider,
            context.last_seq,
            _are_texts(context.messages[-1:]),
            Refusal(fault_of_model(too_large.repeated), changes, change_count),
            context.window,
            MAX_REFUSALS,
        )
        self._remembered.move_to_end(running.log)
        if len(self._remembered) > MAX_SESSIONS:
            self._remembered.popitem(last=False)


def source_of(head: LogHead, revision: int, turn: NewTurn) -> Source:
    """Return what determines the request of a turn."""
    options = hashlib.sha256(turn.options_json.encode()).digest()
    return Source(head.message_log, head.epoch, revision, turn.model, options)


def _window_after(window: WindowUse, turn: NewTurn) -> WindowUse | None:
    totals = turn.append.totals
    return window.plus(totals.count, totals.tokens)


def _messages_of(turn: NewTurn) -> list[Message]:
    return [Message.FromString(body) for body in turn.rows.bodies]


def _are_texts(messages: Sequence[Message]) -> bool:
    """Whether messages are texts of the user, which neither replace nor hide other messages."""
    return all(
        message.role == ROLE_USER
        and message.format != FORMAT_OTHER
        and all(isinstance(piece, Text) for piece in read(message).pieces)
        for message in messages
    )
