"""Random values, as parts of histories. Every text contains a unique mark."""

import json
from typing import Any

from hypothesis import strategies as st

from sessiond.v1.message_pb2 import Message
from sessiond_server.formats.wire import AssetInfo
from sessiond_server.messages.json_content import FORMATS, role_of

JSON = dict[str, Any]
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
PDF = "JVBERi0xLjQKJUVPRgo="
KNOWN_ASSET, MISSING_ASSET = "a" * 64, "b" * 64
ASSETS = {KNOWN_ASSET: AssetInfo("image/png", 70)}

ids = st.sampled_from(
    ["call_1", "call_2", "call_3", "f.x:0", "f_x_0", "s:0", "x" * 70, "ü b", "call_1 ", "toolu_01"]
)
names = st.sampled_from(["look_up", "look.up", "search web", "n" * 80, "füge", "a:b", "1st", "get"])
blanks = st.sampled_from(["", " ", "\n\n", "\t"])


@st.composite
def texts(draw: st.DrawFn, *, may_be_blank: bool = True) -> str:
    """A text with a unique mark, or a blank text."""
    if may_be_blank and draw(st.integers(0, 7)) == 0:
        return draw(blanks)
    number = draw(st.integers(0, 2**40))
    odd = draw(
        st.sampled_from(["", "", "", " é\u2028\u0000", " \ud83d", " \U0001f600", "\n\n  x "])
    )
    return f"mark{number:x}.{odd}"


def sometimes(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a strategy, but mostly None. A key whose value is None is left out."""
    return st.one_of(st.none(), st.none(), strategy)


arguments = st.one_of(
    st.just("{}"),
    texts(may_be_blank=False).map(lambda text: json.dumps({"q": text})),
    texts().map(lambda text: json.dumps([text])),
    st.sampled_from(["", "not json", '{"n": 12345678901234567890123}', "null", '{"a":1.0}', '"s"']),
)
objects = st.one_of(
    st.just({}),
    texts(may_be_blank=False).map(lambda text: {"q": text}),
    st.just({"n": 2**70, "f": 1.5, "deep": [[[{"a": [1, None, True]}]]]}),
)


def clean(value: JSON) -> JSON:
    return {key: item for key, item in value.items() if item is not None}


def as_message(value: JSON, message_format: int) -> Message:
    """Return a provider's message as it is stored."""
    name, roles = FORMATS[message_format]
    return Message(
        role=role_of(value, name, roles, "json"),
        format=message_format,  # type: ignore[arg-type]
        json=json.dumps(value, ensure_ascii=True),
    )
