"""The answers of models as messages to store."""

from collections.abc import Mapping, Sequence

from sessiond.v1.message_pb2 import Message
from sessiond.v1.turn_pb2 import MessageTurn
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import Limits
from sessiond_server.formats.token_counts import Tokenizer
from sessiond_server.messages.append import append_of
from sessiond_server.messages.store.append import Append
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.target import Target
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.providers.base import Answer, Route
from sessiond_server.providers.routing import Models
from sessiond_server.turns.errors import printable
from sessiond_server.turns.state import RunningTurn


class Answers:
    """Prepares the answers of models for the statements that store them and end turns.

    Args:
        models: the models.
        limits: the operator's limits.
        tokenizer: counts the tokens of answers.
    """

    def __init__(self, models: Models, limits: Limits, tokenizer: Tokenizer) -> None:
        self._models = models
        self._limits = limits
        self._tokenizer = tokenizer

    def messages(self, answer: Answer, running: RunningTurn) -> list[Message]:
        """Return the messages of the answer of a turn, in order."""
        return messages_of(answer, running, self._models.route(running.model))

    def encoded(
        self, running: RunningTurn, messages: Sequence[Message]
    ) -> tuple[Append, Rows] | None:
        """Return the append of messages; None if one statement cannot store them."""
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        try:
            rows = validator.encode(messages)
        except Fault:
            return None
        append = append_of(Target(running.project_id, running.session_id, None, ""), validator)
        return (append, rows) if append.is_plain else None


def messages_of(answer: Answer, running: RunningTurn, route: Route) -> list[Message]:
    """Return the messages of an answer, in order.

    Args:
        answer: the answer.
        running: the turn.
        route: the route to the model that has answered.
    """
    origin = MessageTurn(
        turn_id=str(running.turn_id),
        model=printable(answer.model),
        provider=route.provider.name,
        stop_reason=printable(answer.stop_reason),
        usage=answer.usage,
    )
    messages = [
        Message(format=route.provider.format, json=text, turn=origin) for text in answer.messages
    ]
    # The usage is that of the whole answer, so only the answer's last message keeps it.
    for message in messages[:-1]:
        message.turn.ClearField("usage")
    return messages


def tokens_of(answer: Answer) -> Mapping[str, int]:
    """Return the tokens of an answer by kind, for traces; empty if the model reported none."""
    usage = answer.usage
    return {"input": usage.input_tokens, "output": usage.output_tokens} if usage else {}
