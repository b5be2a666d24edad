"""Spliced pages, which equal pages of the generated code, and the page cache."""

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_service_pb2 import GetMessagesResponse
from sessiond_server.core.pg_time import EPOCH_S
from sessiond_server.messages.encoding import (
    EncodedPage,
    assigned_fields,
    encode_basic_page,
    encode_page,
    response_tail,
    varint,
)
from sessiond_server.messages.pages import PageCache, PageKey

seqs = st.one_of(st.integers(1, 200), st.integers(16_300, 16_500), st.integers(1, 2**62))
times = st.integers(0, 3 * 10**15)
sizes = st.integers(0, 2**31 - 1)
counts = st.integers(-(2**31) + 1, 2**31 - 1)


def typed(seq: int, created_us: int, message: Message) -> Message:
    made = Message()
    made.CopyFrom(message)
    made.seq = seq
    made.create_time.seconds = created_us // 1_000_000 + EPOCH_S
    made.create_time.nanos = created_us % 1_000_000 * 1000
    return made


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message = Message(
        role=draw(st.integers(1, 5)),
        parent_seq=draw(st.integers(0, 2**40)),
        content_bytes=draw(st.integers(0, 2**31 - 1)),
    )  # type: ignore[arg-type]
    if draw(st.booleans()):
        message.format = draw(st.integers(1, 3))  # type: ignore[assignment]
        message.json = draw(st.text(max_size=300)) * draw(st.integers(0, 80))
    else:
        message.parts.parts.add(text=draw(st.text(max_size=50)))
    if draw(st.booleans()):
        message.metadata["k"] = draw(st.text(max_size=10))
    return message


@settings(deadline=None)
@given(
    st.lists(st.tuples(seqs, times, messages()), min_size=1, max_size=8),
    st.text(st.characters(codec="ascii"), max_size=40),
    seqs,
)
def test_spliced_is_the_same_as_typed(
    rows: list[tuple[int, int, Message]], token: str, through: int
) -> None:
    page = encode_page(
        [(seq, created, message.SerializeToString()) for seq, created, message in rows]
    )
    response = GetMessagesResponse.FromString(page.encoded + response_tail(token, through, 0))
    expected = GetMessagesResponse(
        messages=[typed(seq, created, message) for seq, created, message in rows],
        resume_token=token,
        through_seq=through,
    )
    assert response == expected
    assert (page.count, page.first_seq, page.last_seq) == (len(rows), rows[0][0], rows[-1][0])
    for seq, created, message in rows:
        assert Message.FromString(
            assigned_fields(seq, created) + message.SerializeToString()
        ) == typed(seq, created, message)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(seqs, times, st.integers(1, 5), st.integers(0, 3), sizes, counts),
        min_size=1,
        max_size=8,
    )
)
def test_spliced_basic_pages_equal_generated_ones(
    rows: list[tuple[int, int, int, int, int, int]],
) -> None:
    response = GetMessagesResponse.FromString(encode_basic_page(rows).encoded)
    assert list(response.messages) == [
        typed(
            seq,
            created,
            Message(
                role=role,
                format=format_,
                content_bytes=size,
                token_count=abs(tokens),
                tokens_estimated=tokens < 0,
            ),  # type: ignore[arg-type]
        )
        for seq, created, role, format_, size, tokens in rows
    ]


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_varints_equal_generated_ones(value: int) -> None:
    assert Message.FromString(b"\x08" + varint(value)).seq == value


def test_the_page_cache_is_bounded_and_evicts_the_least_recently_used() -> None:
    cache = PageCache(10_000)
    log = uuid.uuid4()
    keys = [PageKey(log, log, i, 10, 10) for i in range(30)]
    for key in keys:
        cache.put(key, EncodedPage(b"x" * 1000, 1, 1, 1))
        cache.get(keys[0])
        assert cache.bytes <= 10_000
    assert cache.get(keys[0])  # it was used after each put
    assert not cache.get(keys[1])
    assert cache.get(keys[29])
    cache.put(PageKey(log, log, 99, 10, 10), EncodedPage(b"x" * 5000, 1, 1, 1))
    assert not cache.get(PageKey(log, log, 99, 10, 10))  # too large: it would evict many pages
