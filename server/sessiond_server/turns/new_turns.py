"""Checks the requests of Send, and makes their turns."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import FORMAT_GEMINI, FORMAT_OPENAI, Format, Message
from sessiond.v1.turn_pb2 import MessageTurn
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.ids import uuid7
from sessiond_server.core.json_text import parse_options
from sessiond_server.core.limits import MAX_PROMPT_MESSAGES, MIN_TURN_TIMEOUT_MS, Limits
from sessiond_server.formats.token_counts import Tokenizer
from sessiond_server.messages.append import append_of
from sessiond_server.messages.sizes import check_batch
from sessiond_server.messages.store.rows import Rows
from sessiond_server.messages.target import Target
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.providers.base import ModelFault
from sessiond_server.providers.routing import Models
from sessiond_server.turns.errors import fault_of_model
from sessiond_server.turns.requests.context import policy_of
from sessiond_server.turns.sending import Sending, take_parent
from sessiond_server.turns.store.rows import NewTurn


class NewTurns:
    """Makes turns.

    Args:
        default_model: model of sessions without a model.
        max_timeout_ms: maximum timeout of a turn, which is also the default.
        keep_partial: whether the text of an answer that is cut off is kept by default.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits,
        tokenizer: Tokenizer,
        *,
        default_model: str,
        max_timeout_ms: int,
        keep_partial: bool = True,
    ) -> None:
        self._models = models
        self._limits = limits
        self._tokenizer = tokenizer
        self._default_model = default_model
        self._max_timeout_ms = max_timeout_ms
        self._keep_partial = keep_partial

    def turn(
        self, sending: Sending, turn_id: UUID, *, session_model: str, config: dict[str, Any]
    ) -> NewTurn:
        """Check a Send, and return its turn.

        Args:
            sending: the request.
            turn_id: the id of the turn.
            session_model: the session's model; "" = none.
            config: the session's config.

        Raises:
            Fault: with the reasons of Send.
        """
        policy_of(config)
        timeout_ms = self._checked_timeout_ms(sending.timeout_ms)
        parse_options(sending.options_json, "options_json")
        model = sending.model or session_model or self._default_model
        try:
            route = self._models.route(model)
        except ModelFault as fault:
            raise fault_of_model(fault) from None
        if sending.prompt and sending.messages:
            raise invalid("messages", "cannot be combined with prompt")
        if len(sending.messages) > MAX_PROMPT_MESSAGES:
            raise invalid(
                "messages",
                f"are {len(sending.messages)}; at most {MAX_PROMPT_MESSAGES} are allowed",
            )
        messages = _messages_of(sending, route.provider.format)
        if sending.is_immediate and not messages:
            raise invalid("prompt", "is empty; send a prompt or messages to steer the turn")
        take_parent(sending, messages)
        message_id = uuid7() if messages else None
        for message in messages:
            message.turn.CopyFrom(MessageTurn(turn_id=str(turn_id)))
        if messages:
            last = messages[-1]
            last.turn.message_id = last.message_id = last.message_id or str(message_id)
        prompt = SendRequest(messages=messages).SerializeToString()
        check_batch(len(messages), sum(len(m.json) for m in messages), self._limits)
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        rows = _encoded(validator, sending, messages)
        check_batch(validator.totals.count, validator.totals.content_bytes, self._limits)
        target = Target(
            sending.project_id,
            sending.session_id,
            None,
            sending.request_id,
            expected_epoch=sending.expected_epoch,
        )
        # A turn without messages continues a message, so there must be one.
        least = 0 if messages else max(sending.parent_seq, 1)
        validator.totals.parent_floor = max(validator.totals.parent_floor, least)
        return NewTurn(
            turn_id,
            model,
            prompt,
            message_id,
            sending.options_json,
            timeout_ms,
            append_of(target, validator),
            rows,
            keep_partial=self._keep_partial
            if sending.keep_partial is None
            else sending.keep_partial,
            parent_seq=sending.parent_seq,
        )

    def _checked_timeout_ms(self, timeout_ms: int | None) -> int:
        if timeout_ms is None:
            return self._max_timeout_ms
        if timeout_ms < MIN_TURN_TIMEOUT_MS:
            raise invalid("turn_timeout", f"is {timeout_ms} ms; the minimum is 1 second")
        return min(timeout_ms, self._max_timeout_ms)


def _messages_of(sending: Sending, own_format: Format.ValueType) -> list[Message]:
    """Return the messages of a Send, each with a format.

    Args:
        sending: the request.
        own_format: the format of the model's provider.
    """
    is_gemini = own_format == FORMAT_GEMINI
    if sending.prompt:
        content = (
            {"parts": [{"text": sending.prompt}]} if is_gemini else {"content": sending.prompt}
        )
        text = orjson.dumps({"role": "user", **content}).decode()
        return [Message(format=own_format, json=text)]
    # Clients may leave out the format of plain text, {"role": ..., "content": ...}. Gemini's format
    # has no such message, so it is stored in OpenAI's format instead.
    messages = list(sending.messages)
    for message in messages:
        if message.json and not message.format:
            message.format = FORMAT_OPENAI if is_gemini else own_format
    return messages


def _encoded(validator: MessageValidator, sending: Sending, messages: Sequence[Message]) -> Rows:
    """Check and encode the messages. A fault of the message of a prompt names the prompt."""
    try:
        return validator.encode(messages)
    except Fault as fault:
        if not sending.prompt:
            raise
        raise Fault(
            fault.reason,
            fault.message,
            metadata=fault.metadata,
            fields={"prompt": next(iter(fault.fields.values()), "")},
        ) from None
