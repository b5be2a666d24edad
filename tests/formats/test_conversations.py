"""Whole conversations go to every dialect and are accepted."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message

from ..conftest import CONVERSATIONS
from ..support.conversations import made_up_conversations
from .dialects import DIALECTS
from .histories import as_message


def _stored(conversation: dict[str, Any]) -> list[Message]:
    messages = [as_message(value, FORMAT_OPENAI) for value in conversation["messages"]]
    for seq, message in enumerate(messages, 1):
        message.seq = seq
    return messages


def _real() -> Iterator[dict[str, Any]]:
    with gzip.open(CONVERSATIONS, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


@pytest.mark.parametrize("name", DIALECTS)
def test_made_up_conversations_are_accepted_at_every_length(name: str) -> None:
    for conversation in made_up_conversations()[:25]:
        messages = _stored(conversation)
        for length in {*range(1, min(20, len(messages))), len(messages)}:
            DIALECTS[name].send(messages[:length])


@pytest.mark.skipif(not CONVERSATIONS.exists(), reason="the 200 real conversations are not here")
@pytest.mark.parametrize("name", DIALECTS)
def test_real_conversations_are_accepted(name: str) -> None:
    count = 0
    for conversation in _real():
        DIALECTS[name].send(_stored(conversation))
        count += 1
    assert count == 200
