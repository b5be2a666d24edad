"""Dicts as JSON, and messages as encoded requests, compared with those of slower libraries."""

import json
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import InvalidField, Message, NewMessage
from sessiond._protocol.json_text import encode
from sessiond._requests.encoded import Encoder, encoded_store
from sessiond._requests.input import add_batch
from sessiond.v1 import message_pb2
from sessiond.v1.session_service_pb2 import ImportMessagesRequest, StoreMessagesRequest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
BLOBS = st.dictionaries(st.text(), VALUES, max_size=5)


class Colour(Enum):
    RED = "red"


class Name(StrEnum):
    ROLE = "role"


class Doubled(dict[str, Any]):
    def __len__(self) -> int:
        return 2

    def get(self, key: str, default: object = None) -> object:
        return "text"

    def items(self) -> Any:
        return [(key, value * 2 if value else value) for key, value in super().items()]


@dataclass
class Point:
    x: int


@given(BLOBS)
def test_json_reads_back_as_what_was_given(blob: dict[str, Any]) -> None:
    assert json.loads(encode(blob)) == json.loads(json.dumps(blob))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_without_floats_it_is_the_text_of_the_standard_library(value: Any) -> None:
    blob = {"value": value}
    text = json.dumps(blob, ensure_ascii=False, separators=(",", ":"))
    try:
        expected = text.encode()
    except UnicodeEncodeError:
        expected = json.dumps(blob, separators=(",", ":")).encode()
    assert encode(blob) == expected


@pytest.mark.parametrize("beside", [{}, {"nothing": None}], ids=["alone", "beside a null"])
class TestBothWays:
    """A null in the value selects another JSON library. The result must be the same."""

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    def test_nan_and_infinities_are_refused(self, beside: dict[str, Any], number: float) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            encode({"a": [{"b": number}], **beside})

    @pytest.mark.parametrize("value", [datetime.now(UTC), {1, 2}, b"x", Point(1), object()])
    def test_values_that_json_does_not_have_are_refused(
        self, beside: dict[str, Any], value: object
    ) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            encode({"a": value, **beside})

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
            (Colour.RED, '"red"'),
            (2**70, "1180591620717411303424"),
            (-(2**63), "-9223372036854775808"),
            ({2: "a", None: "b", True: "c"}, '{"2":"a","null":"b","true":"c"}'),
            ({Name.ROLE: 1}, '{"role":1}'),
            ((1, 2), "[1,2]"),
            ("half \ud83d", '"half \\ud83d"'),
            ("\u2028 é \U0001f600 \x7f \x1f", '"\u2028 é \U0001f600 \x7f \\u001f"'),
        ],
    )
    def test_rare_types_and_keys(self, beside: dict[str, Any], value: object, text: str) -> None:
        expected = "{" + f'"a":{text}' + (',"nothing":null' if beside else "") + "}"
        assert encode({"a": value, **beside}).decode() == expected

    def test_dicts_with_ideas_of_their_own(self, beside: dict[str, Any]) -> None:
        moved = OrderedDict(a=1, b=2)
        moved.move_to_end("a")
        assert encode({"x": moved, **beside}).startswith(b'{"x":{"b":2,"a":1}')
        for value in (Doubled(role=1), {"x": Doubled(role=1)}):
            assert b'"role":2' in encode(value)
        with pytest.raises(ValueError, match="not JSON compliant"):
            encode(Doubled(role=float("nan"), **beside))

    @pytest.mark.parametrize("kind", [OrderedDict, MappingProxyType])
    def test_other_mappings(self, beside: dict[str, Any], kind: Any) -> None:
        assert json.loads(encode(kind({"a": 1, **beside}))) == {"a": 1, **beside}

    def test_deep_is_fine_and_without_end_is_not(self, beside: dict[str, Any]) -> None:
        value: Any = 1
        for _ in range(400):
            value = [value]
        assert json.loads(encode({"a": value, **beside}))["a"] == value
        endless: dict[str, Any] = {**beside}
        endless["self"] = endless
        with pytest.raises((ValueError, RecursionError)):
            encode(endless)


MESSAGES = st.one_of(
    BLOBS,
    BLOBS.map(json.dumps),
    BLOBS.map(lambda blob: json.dumps(blob).encode()),
    st.builds(NewMessage, BLOBS, metadata=st.just({"a": 1}), parent_seq=st.integers(1, 2**40)),
    st.builds(message_pb2.Message, json=st.just("{}"), format=st.just(message_pb2.FORMAT_GEMINI)),
    st.just(
        Message(
            "s",
            message_pb2.Message(
                seq=4,
                role=message_pb2.ROLE_USER,
                json='{"role":"user"}',
                format=message_pb2.FORMAT_OPENAI,
            ),
        )
    ),
)


@given(st.lists(MESSAGES, max_size=8), st.sampled_from(["openai", "anthropic", "gemini"]))
def test_an_encoded_request_is_what_the_generated_code_would_write(
    messages: list[Any], format: str
) -> None:
    head = StoreMessagesRequest(session_id="s", request_id="r", expected_last_seq=0)
    expected = StoreMessagesRequest()
    expected.CopyFrom(head)
    add_batch(expected.messages, messages, format)
    assert StoreMessagesRequest.FromString(encoded_store(head, messages, format)) == expected


@pytest.mark.parametrize("size", [0, 1, 100, 115, 127, 128, 16_360, 16_384, 2_097_152])
def test_lengths_of_any_size(size: int) -> None:
    [message] = StoreMessagesRequest.FromString(
        encoded_store(StoreMessagesRequest(), [{"a": "x" * size}], "openai")
    ).messages
    assert json.loads(message.json) == {"a": "x" * size}


def test_pieces_are_the_whole_in_turn() -> None:
    encoder = Encoder(ImportMessagesRequest(session_id="s"), "openai")
    pieces = []
    for place in range(10):
        encoder.add({"n": place}, place)
        assert encoder.size
        if place % 3 == 2:
            pieces.append(encoder.take())
            assert not encoder.size
    pieces.append(encoder.take())
    read = [ImportMessagesRequest.FromString(piece) for piece in pieces]
    assert [piece.session_id for piece in read] == ["s", "", "", ""]
    assert [json.loads(message.json)["n"] for piece in read for message in piece.messages] == list(
        range(10)
    )


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": object()}, b"\xff", 5])
def test_a_bad_value_is_named(bad: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        encoded_store(StoreMessagesRequest(), [{"role": "user"}, bad], "openai")
    assert caught.value.field_violations[0].field.startswith("messages[1]")
