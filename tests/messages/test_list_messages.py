"""ListMessages: pages for callers that cannot take a stream."""

import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER
from sessiond.v1.session_service_pb2 import MESSAGE_ORDER_DESC, MESSAGE_VIEW_BASIC

from ..support.wire import Wire, error_of, openai


async def pages(wire: Wire, **fields: object) -> list[list[int]]:
    """Return the seqs of each page."""
    request = ss.ListMessagesRequest(session_id="one", **fields)  # type: ignore[arg-type]
    found = []
    while True:
        page = await wire.sessions.ListMessages(request)
        found.append([message.seq for message in page.messages])
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@pytest.fixture
async def seven(wire: Wire) -> Wire:
    """A session of seven messages, of the user and of the assistant in turns."""
    await wire.create("one")
    await wire.store("one", *(openai(str(i), ("user", "assistant")[i % 2]) for i in range(7)))
    return wire


async def test_pages_hold_every_message_once_in_either_order(seven: Wire) -> None:
    assert await pages(seven, page_size=3) == [[1, 2, 3], [4, 5, 6], [7]]
    assert await pages(seven, page_size=7) == [[1, 2, 3, 4, 5, 6, 7]]
    assert await pages(seven, page_size=3, order=MESSAGE_ORDER_DESC) == [[7, 6, 5], [4, 3, 2], [1]]


async def test_a_page_is_part_of_what_was_asked_for(seven: Wire) -> None:
    assert await pages(seven, page_size=2, after_seq=2, through_seq=6) == [[3, 4], [5, 6]]
    assert await pages(seven, page_size=2, roles=[ROLE_ASSISTANT]) == [[2, 4], [6]]
    descending = {"order": MESSAGE_ORDER_DESC, "roles": [ROLE_USER], "after_seq": 1}
    assert await pages(seven, page_size=2, **descending) == [[7, 5], [3]]
    request = ss.ListMessagesRequest(session_id="one", view=MESSAGE_VIEW_BASIC)
    assert not any(m.json for m in (await seven.sessions.ListMessages(request)).messages)


async def test_an_empty_session_has_one_empty_page(wire: Wire) -> None:
    await wire.create("one")
    assert await pages(wire) == [[]]


async def test_messages_that_are_stored_between_pages_follow(seven: Wire) -> None:
    request = ss.ListMessagesRequest(session_id="one", page_size=6)
    page = await seven.sessions.ListMessages(request)
    await seven.store("one", "late")
    request.page_token = page.next_page_token
    page = await seven.sessions.ListMessages(request)
    assert [message.seq for message in page.messages] == [7, 8]


async def test_no_page_of_several_messages_is_above_4_mib(wire: Wire) -> None:
    await wire.create("one")
    for size in (900_000, 900_000, 3_000_000, 100, 6_000_000, 100):
        await wire.store("one", "x" * size)
    assert await pages(wire) == [[1], [2], [3], [4], [5], [6]]
    request = ss.ListMessagesRequest(session_id="one")
    assert (await wire.sessions.ListMessages(request)).ByteSize() < 4 * 1024 * 1024


async def test_a_token_of_another_listing_is_refused(seven: Wire) -> None:
    request = ss.ListMessagesRequest(session_id="one", page_size=2)
    request.page_token = (await seven.sessions.ListMessages(request)).next_page_token
    request.order = MESSAGE_ORDER_DESC
    error = await error_of(seven.sessions.ListMessages(request))
    assert (error.reason, list(error.fields)) == ("INVALID_PAGE_TOKEN", ["page_token"])
