"""The answers of models as messages to store."""

from collections.abc import Mapping

from sessiond.v1.message_pb2 import Message
from sessiond.v1.turn_pb2 import MessageTurn
from sessiond_server.providers.base import Answer, Route
from sessiond_server.turns.errors import printable
from sessiond_server.turns.state import RunningTurn


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
