"""Every history becomes a request that its provider accepts, and nothing vanishes unreported."""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.v1.message_pb2 import (
    FORMAT_ANTHROPIC,
    FORMAT_GEMINI,
    FORMAT_OPENAI,
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Message,
)
from sessiond_server.formats.report import UnsendableHistory
from sessiond_server.formats.wire import AssetString, StoredObject, encode
from sessiond_server.formats.write import anthropic, gemini, openai_chat, openai_responses
from sessiond_server.formats.write.gemini import NO_SIGNATURE
from sessiond_server.formats.write.openai_chat import ChatDialect
from sessiond_server.formats.write.request import FittedRequest, History

from ..support.strict_models.anthropic_messages import validate_anthropic
from ..support.strict_models.gemini import validate_gemini
from ..support.strict_models.openai_chat import (
    validate_deepseek,
    validate_groq,
    validate_openai_chat,
)
from ..support.strict_models.openai_responses import validate_openai_responses
from ..support.strict_models.sdk_types import validate_against_sdk
from .histories import ASSETS, PNG, as_message, histories

JSON = dict[str, Any]
MARK = re.compile(r"mark[0-9a-f]+\.")


@dataclass(frozen=True)
class Dialect:
    """A dialect under test."""

    fit: Callable[[History], FittedRequest]
    validate: Callable[[JSON], None]
    api: str
    is_own: Callable[[Message], bool]
    messages: str


def _is_chat(message: Message) -> bool:
    value = json.loads(message.json) if message.format == FORMAT_OPENAI else {}
    return "role" in value and value.get("type") != "message"


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(openai_chat.fit, validate_openai_chat, "openai", _is_chat, "messages"),
    "groq": Dialect(
        lambda history: openai_chat.fit(history, ChatDialect(is_openai=False)),
        validate_groq,
        "groq",
        lambda message: False,
        "messages",
    ),
    "deepseek": Dialect(
        lambda history: openai_chat.fit(
            history, ChatDialect(is_openai=False, reasoning_key="reasoning_content", files=False)
        ),
        validate_deepseek,
        "deepseek",
        lambda message: False,
        "messages",
    ),
    "anthropic": Dialect(
        anthropic.fit,
        validate_anthropic,
        "anthropic",
        lambda message: (
            message.format == FORMAT_ANTHROPIC and message.role in (ROLE_USER, ROLE_ASSISTANT)
        ),
        "messages",
    ),
}


def _is_item(message: Message) -> bool:
    value = json.loads(message.json) if message.format == FORMAT_OPENAI else {}
    return "role" not in value or value.get("type") == "message"


DIALECTS |= {
    "responses": Dialect(
        openai_responses.fit,
        validate_openai_responses,
        "responses",
        lambda message: message.format == FORMAT_OPENAI and _is_item(message),
        "input",
    ),
    "gemini": Dialect(
        gemini.fit,
        validate_gemini,
        "gemini",
        lambda message: message.format == FORMAT_GEMINI and message.role != ROLE_SYSTEM,
        "contents",
    ),
}


def sent(dialect: Dialect, messages: Sequence[Message]) -> tuple[FittedRequest, JSON]:
    """Return the request, and its body as the provider gets it."""
    options = {"max_tokens": 100} if dialect.api == "anthropic" else {}
    request = dialect.fit(History(messages, "Be kind.", options, ASSETS))
    pieces = [
        piece if isinstance(piece, bytes) else json.dumps(piece.prefix + PNG).encode()
        for piece in encode(
            ({} if dialect.api == "gemini" else {"model": "m"}) | request.body
        ).pieces
        if not isinstance(piece, AssetString) or piece.asset_id in ASSETS
    ]
    body = json.loads(b"".join(pieces))
    assert isinstance(body, dict)
    return request, body


def assert_newest_is_last(messages: Sequence[Message], request: FittedRequest, body: JSON) -> None:
    """The request ends with the user, and what is newest stands behind the model's last word."""
    items = body[request_key(body)]
    assert not is_answer(items[-1])
    last_answer = max((i for i, item in enumerate(items) if is_answer(item)), default=-1)
    newest = messages[-1]
    if newest.role in (ROLE_USER, ROLE_TOOL):
        after = json.dumps(items[last_answer + 1 :], ensure_ascii=False)
        marks = MARK.findall(newest.json or str(newest.parts))
        assert all(mark in after for mark in marks) or request.report.of(newest.seq)


def request_key(body: JSON) -> str:
    """Return the key of a body under which the history is."""
    return next(key for key in ("messages", "input", "contents") if key in body)


def is_answer(item: JSON) -> bool:
    """Whether the model made a message or an item."""
    if "role" in item:
        return item["role"] in ("assistant", "model")
    return not str(item.get("type")).endswith("_output")


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=int(os.environ.get("EX", "200")), deadline=None)
@given(data=st.data())
def test_every_history_is_accepted_and_nothing_vanishes(name: str, data: st.DataObject) -> None:
    dialect = DIALECTS[name]
    messages = data.draw(histories())
    try:
        request, body = sent(dialect, messages)
    except UnsendableHistory:
        # See test_compaction.py.
        return
    dialect.validate(body)
    assert_newest_is_last(messages, request, body)
    assert not validate_against_sdk(dialect.api, body)  # type: ignore[arg-type]
    text = json.dumps(body, ensure_ascii=False)
    for message in messages:
        for mark in MARK.findall(message.json or str(message.parts)):
            assert mark in text or request.report.of(message.seq), (message.seq, mark)
    unchanged = [item for item in request.body[dialect.messages] if isinstance(item, StoredObject)]
    raws = {item.raw for item in unchanged}
    for message in messages:
        has_asset = "sessiond-asset:" in message.json
        if dialect.is_own(message) and not (has_asset or request.report.of(message.seq)):
            assert message.json in raws, message.seq


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=int(os.environ.get("EX", "200")), deadline=None)
@given(data=st.data())
def test_a_longer_history_begins_with_the_same_request(name: str, data: st.DataObject) -> None:
    dialect = DIALECTS[name]
    messages = data.draw(histories())
    # A prompt is sent, and answered; then others follow.
    split = data.draw(st.integers(1, len(messages)))
    prompt = as_message({"role": "user", "content": "prompt"}, FORMAT_OPENAI)
    answer = as_message({"role": "assistant", "content": "answer"}, FORMAT_OPENAI)
    turn = [*messages[:split], prompt, answer, *messages[split:], prompt]
    for seq, message in enumerate(turn, 1):
        turn[seq - 1] = Message()
        turn[seq - 1].CopyFrom(message)
        turn[seq - 1].seq = seq
    try:
        _, first = sent(dialect, turn[: split + 1])
        _, second = sent(dialect, turn)
    except UnsendableHistory:
        return
    key = request_key(first)
    begun, longer = first[key], second[key]
    if name == "gemini":
        # Calls of the current turn alone need a signature; see NO_SIGNATURE.
        begun, longer = (
            json.loads(json.dumps(items).replace(f', "thoughtSignature": "{NO_SIGNATURE}"', ""))
            for items in (begun, longer)
        )
    assert longer[: len(begun)] == begun
