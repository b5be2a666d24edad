"""ListMessages: pages for callers that cannot take a stream."""

from typing import Any

import pytest

from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest
from sessiond.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER, Message
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_service_pb2 import (
    MESSAGE_ORDER_ASC,
    MESSAGE_ORDER_DESC,
    MESSAGE_VIEW_BASIC,
)

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


def child(parent_seq: int, text: str) -> Message:
    message = openai(text)
    message.parent_seq = parent_seq
    return message


async def test_pages_of_one_branch(seven: Wire) -> None:
    await seven.store("one", child(2, "edited"), openai("answer", "assistant"))
    assert await pages(seven, page_size=3, branch_of=9) == [[1, 2, 8], [9]]
    assert await pages(seven, page_size=3, branch_of=7) == [[1, 2, 3], [4, 5, 6], [7]]
    descending = {"order": MESSAGE_ORDER_DESC, "branch_of": 9}
    assert await pages(seven, page_size=3, **descending) == [[9, 8, 2], [1]]
    error = await error_of(
        seven.sessions.ListMessages(ss.ListMessagesRequest(session_id="one", branch_of=10))
    )
    assert (error.reason, list(error.fields)) == ("MESSAGE_NOT_FOUND", ["branch_of"])


async def test_pages_begin_after_a_message_id_or_a_bookmark(wire: Wire) -> None:
    await wire.create("one")
    messages = [openai(str(i)) for i in range(6)]
    messages[1].message_id = "second"
    await wire.store("one", *messages)
    bookmark = Bookmark(name="half", seq=3)
    await wire.bookmarks.CreateBookmark(CreateBookmarkRequest(session_id="one", bookmark=bookmark))
    assert await pages(wire, page_size=3, after_message_id="second") == [[3, 4, 5], [6]]
    assert await pages(wire, page_size=2, after_bookmark="half") == [[4, 5], [6]]
    descending = {"order": MESSAGE_ORDER_DESC, "after_message_id": "second"}
    assert await pages(wire, page_size=3, **descending) == [[6, 5, 4], [3]]


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"after_message_id": "m"}, "MESSAGE_NOT_FOUND", "after_message_id"),
        ({"after_bookmark": "b"}, "BOOKMARK_NOT_FOUND", "after_bookmark"),
        ({"after_seq": 1, "after_message_id": "m"}, "INVALID_FIELD", "after_message_id"),
        ({"after_message_id": "m", "after_bookmark": "b"}, "INVALID_FIELD", "after_bookmark"),
        ({"branch_of": -1}, "INVALID_FIELD", "branch_of"),
    ],
)
async def test_a_beginning_that_does_not_exist_is_refused(
    seven: Wire, fields: dict[str, Any], reason: str, field: str
) -> None:
    request = ss.ListMessagesRequest(session_id="one", **fields)
    error = await error_of(seven.sessions.ListMessages(request))
    assert (error.reason, list(error.fields)) == (reason, [field])


async def rewind(wire: Wire, to_seq: int, *texts: str) -> None:
    request = RewindSessionRequest(session_id="one", to_seq=to_seq)
    request.messages.extend(openai(text) for text in texts)
    await wire.sessions.RewindSession(request)


@pytest.mark.parametrize("order", [MESSAGE_ORDER_ASC, MESSAGE_ORDER_DESC])
async def test_pages_never_mix_two_histories(seven: Wire, order: int) -> None:
    request = ss.ListMessagesRequest(session_id="one", page_size=3, order=order)  # type: ignore[arg-type]
    request.page_token = (await seven.sessions.ListMessages(request)).next_page_token
    # In ascending order, the next page starts after seq 3; in descending order, it starts with
    # seq 4. The rewind replaces both messages.
    await rewind(seven, 2, *"abcde")
    error = await error_of(seven.sessions.ListMessages(request))
    assert (error.reason, error.metadata["epoch"]) == ("HISTORY_REWOUND", "1")


async def test_pages_go_on_after_a_rewind_that_kept_their_place(seven: Wire) -> None:
    request = ss.ListMessagesRequest(session_id="one", page_size=3)
    request.page_token = (await seven.sessions.ListMessages(request)).next_page_token
    await rewind(seven, 3, "new")
    page = await seven.sessions.ListMessages(request)
    assert [message.seq for message in page.messages] == [4]
    descending = ss.ListMessagesRequest(
        session_id="one", page_size=2, order=MESSAGE_ORDER_DESC, expected_epoch=1
    )
    descending.page_token = (await seven.sessions.ListMessages(descending)).next_page_token
    await rewind(seven, 2)
    error = await error_of(seven.sessions.ListMessages(descending))
    assert error.reason == "HISTORY_REWOUND"
    descending.expected_epoch = 2
    page = await seven.sessions.ListMessages(descending)
    assert [message.seq for message in page.messages] == [2, 1]
