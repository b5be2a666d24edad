"""Every history becomes a request that its provider accepts, and nothing vanishes unreported."""

import json
import os
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond.v1.message_pb2 import FORMAT_OPENAI, FORMAT_OTHER, ROLE_TOOL, ROLE_USER, Message
from sessiond_server.dialects.request import FittedRequest
from sessiond_server.formats.report import UnsendableHistory
from sessiond_server.formats.wire import StoredObject

from .dialects import DIALECTS
from .histories import as_message, histories

JSON = dict[str, Any]
MARK = re.compile(r"mark[0-9a-f]+\.")
# The default is small, because every full test run includes these tests.
EXAMPLES = settings(
    max_examples=int(os.environ.get("SESSIOND_TEST_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# A timeout in seconds that is long enough for a busy machine.
pytestmark = pytest.mark.timeout(3 * EXAMPLES.max_examples)


def assert_newest_is_last(
    messages: Sequence[Message], request: FittedRequest, body: JSON, key: str
) -> None:
    """Check that the newest message is sent after the model's last message, or reported.

    A program's message may contain a system prompt, which some APIs take in a field of its own.
    """
    items = body[key]
    assert not is_answer(items[-1])
    last_answer = max((i for i, item in enumerate(items) if is_answer(item)), default=-1)
    newest = messages[-1]
    if newest.role in (ROLE_USER, ROLE_TOOL):
        sent = [items[last_answer + 1 :]]
        if newest.format == FORMAT_OTHER:
            sent += [value for name, value in body.items() if name != key]
        after = json.dumps(sent, ensure_ascii=False)
        marks = MARK.findall(newest.json or str(newest.parts))
        assert all(mark in after for mark in marks) or request.report.of(newest.seq)


def is_answer(item: JSON) -> bool:
    """Return whether a message or item comes from the model."""
    if "role" in item:
        return item["role"] in ("assistant", "model")
    return not str(item.get("type")).endswith(("_output", "_response"))


@pytest.mark.parametrize("name", DIALECTS)
@EXAMPLES
@given(data=st.data())
def test_every_history_is_accepted_and_nothing_vanishes(name: str, data: st.DataObject) -> None:
    dialect = DIALECTS[name]
    messages = data.draw(histories())
    try:
        request, body = dialect.send(messages)
    except UnsendableHistory:
        return  # see test_faults.py
    assert_newest_is_last(messages, request, body, dialect.key)
    text = json.dumps(body, ensure_ascii=False)
    for message in messages:
        for mark in MARK.findall(message.json or str(message.parts)):
            assert mark in text or request.report.of(message.seq), (message.seq, mark)
    unchanged = [item for item in request.body[dialect.key] if isinstance(item, StoredObject)]
    raws = {item.raw for item in unchanged}
    for message in messages:
        has_asset = "sessiond-asset:" in message.json
        if dialect.is_own(message) and not (has_asset or request.report.of(message.seq)):
            assert message.json in raws, message.seq


@pytest.mark.parametrize("name", DIALECTS)
@EXAMPLES
@given(data=st.data())
def test_a_longer_history_begins_with_the_same_request(name: str, data: st.DataObject) -> None:
    dialect = DIALECTS[name]
    messages = data.draw(histories())
    # A turn adds a prompt and an answer at the split. Further messages follow.
    split = data.draw(st.integers(1, len(messages)))
    prompt = as_message({"role": "user", "content": "prompt"}, FORMAT_OPENAI)
    answer = as_message({"role": "assistant", "content": "answer"}, FORMAT_OPENAI)
    turn = [*messages[:split], prompt, answer, *messages[split:], prompt]
    for seq, message in enumerate(turn, 1):
        turn[seq - 1] = Message()
        turn[seq - 1].CopyFrom(message)
        turn[seq - 1].seq = seq
    try:
        _, first = dialect.make(turn[: split + 1])
        _, second = dialect.make(turn)
    except UnsendableHistory:
        return
    begun, longer = first[dialect.key], second[dialect.key]
    assert longer[: len(begun)] == begun
