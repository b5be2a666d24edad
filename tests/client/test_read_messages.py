"""Messages as they are read: the same values whether their JSON arrives as text or as bytes."""

import copy
import json
import pickle
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from sessiond import Message
from sessiond._protocol.json_text import decode
from sessiond._protocol.raw_messages import raw
from sessiond.v1 import message_pb2, turn_pb2
from sessiond.v1.session_service_pb2 import GetMessagesResponse

INTEGERS = st.one_of(
    st.integers(),
    st.integers(2**63 - 3, 2**63 + 3),
    st.integers(2**64 - 3, 2**64 + 3),
    st.integers(-(2**63) - 3, -(2**63) + 3),
    st.integers(10**18, 10**30),
)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans(), st.text(" \n", max_size=40))
@example({"role": "user", "content": "\ud800"}, True, "")
@example({"n": 123456789012345678901, "role": "user"}, False, "")
@example({"n": -9223372036854775809}, False, "")
@example({"n": 1e308, "m": 18446744073709551615}, False, "")
def test_json_is_decoded_as_the_standard_library_does(
    value: dict[str, Any], escaped: bool, space: str
) -> None:
    """Equal values of equal types: no whole number becomes a floating-point number."""
    text = space + json.dumps(value, ensure_ascii=escaped)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which messages can only have as an escape
        encoded = (space + json.dumps(value)).encode()
    found, expected = decode(encoded), json.loads(encoded)
    assert found == expected
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("number", ["1E400", "-1E400", "1" * 400 + ".0", "-0", "-0.0", "1e-400"])
def test_unusual_numbers_are_decoded_as_the_standard_library_does(number: str) -> None:
    text = f'{{"n": {number}}}'
    assert repr(decode(text.encode())) == repr(json.loads(text))


@pytest.mark.parametrize("digits", range(17, 24))
@pytest.mark.parametrize("offset", range(20))
def test_a_long_number_is_found_wherever_it_stands(digits: int, offset: int) -> None:
    text = f'{{"t": "{"x" * offset}", "n": {"9" * digits}}}'
    assert decode(text.encode())["n"] == int("9" * digits)


def _read(message: message_pb2.Message) -> tuple[Message, Message]:
    """Return a message twice: as GetMessages reads it, and as GetMessage reads it."""
    encoded = GetMessagesResponse(messages=[message]).SerializeToString()
    [read] = raw(GetMessagesResponse).FromString(encoded).messages
    return Message("s", read), Message("s", message)


def _messages() -> list[message_pb2.Message]:
    stored = message_pb2.Message(
        seq=3,
        create_time=Timestamp(seconds=5, nanos=1000),
        role=message_pb2.ROLE_ASSISTANT,
        format=message_pb2.FORMAT_OPENAI,
        json='{"role": "assistant",  "content": "ä"}',
        parent_seq=1,
        content_bytes=40,
        token_count=2,
        message_id="m",
        turn=turn_pb2.MessageTurn(turn_id="t", message_id="u", model="echo"),
    )
    stored.metadata["k"] = [1, {"l": None}]
    typed = message_pb2.Message(seq=4, role=message_pb2.ROLE_USER)
    typed.parts.parts.add(text="ö")
    typed.parts.parts.add().tool_call.call_id = "c"
    return [stored, typed, message_pb2.Message(seq=5, role=message_pb2.ROLE_USER)]


@pytest.mark.parametrize("message", _messages(), ids=["json", "parts", "basic"])
def test_a_streamed_message_has_the_values_of_one_read_alone(message: message_pb2.Message) -> None:
    streamed, alone = _read(message)
    for field in Message._fields:
        assert getattr(streamed, field) == getattr(alone, field), field
    assert streamed.to_dict() == alone.to_dict()
    assert (streamed, hash(streamed), repr(streamed)) == (alone, hash(alone), repr(alone))


@pytest.mark.parametrize("message", _messages(), ids=["json", "parts", "basic"])
def test_a_streamed_message_gives_out_its_protobuf_message(message: message_pb2.Message) -> None:
    streamed, _ = _read(message)
    assert type(streamed.proto) is message_pb2.Message
    assert streamed.proto == message
    assert streamed.json == Message("s", message).json


def test_a_streamed_message_can_be_pickled_and_copied() -> None:
    streamed, alone = _read(_messages()[0])
    assert pickle.loads(pickle.dumps(streamed)) == alone  # noqa: S301 - its own
    assert copy.copy(streamed) == copy.deepcopy(streamed) == alone
