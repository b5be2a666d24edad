"""Pages of messages, for callers that cannot take a stream."""

from contextlib import aclosing
from dataclasses import replace
from uuid import UUID

from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_service_pb2 import GetMessagesResponse
from sessiond_server.core import pagination
from sessiond_server.core.errors import invalid
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.messages.history import History
from sessiond_server.messages.read_window import Reading
from sessiond_server.messages.store.history import LogHead

# Maximum size of a page; a message that is larger becomes a page of its own. By default, clients
# refuse responses above 4 MiB.
PAGE_BYTES = 1024 * 1024


async def list_messages(
    history: History, project_id: UUID, reading: Reading, page_size: int, page_token: str
) -> Page[Message]:
    """Return a page of messages.

    Args:
        history: reads the messages.
        project_id: the caller's project.
        reading: the messages to list, without a limit.
        page_size: see Paging.
        page_token: see Paging.

    Raises:
        Fault: SESSION_NOT_FOUND; INVALID_FIELD; INVALID_PAGE_TOKEN; MESSAGE_NOT_FOUND;
            BOOKMARK_NOT_FOUND; HISTORY_REWOUND.
    """
    starts = ("after_seq", "after_message_id", "after_bookmark")
    given = [start for start in starts if getattr(reading, start)]
    if len(given) > 1:
        raise invalid(given[1], f"cannot be combined with {given[0]}")
    query = ("messages", *_query(reading))
    # Tokens of earlier versions contain no incarnation. The oldest ones contain no epoch either.
    position_of = (pagination.seq, pagination.seq, pagination.text)
    paging = Paging(page_size, page_token, query, *position_of, defaults=(0, ""))
    if paging.after:
        seq, epoch, incarnation = paging.after
        if reading.descending and seq == 1:
            return Page([], "")
        reading = (
            replace(reading, through_seq=seq - 1)
            if reading.descending
            else replace(
                reading,
                after_seq=max(seq, reading.after_seq),
                after_message_id=None,
                after_bookmark=None,
            )
        )
        reading = replace(reading, since_epoch=epoch, incarnation=incarnation)
    # One more message than requested shows whether there is a next page.
    reading = replace(reading, limit=paging.size + 1)
    messages: list[Message] = []
    heads: list[LogHead] = []
    size = 0

    def position(message: Message) -> tuple[int, int, str]:
        return message.seq, heads[0].epoch, heads[0].log.hex

    async with aclosing(history.stream(project_id, reading, heads.append)) as batches:
        async for batch in batches:
            response = GetMessagesResponse.FromString(batch)
            for message in response.messages:
                size += message.ByteSize()
                if len(messages) == paging.size or (messages and size > PAGE_BYTES):
                    return paging.page(messages, position, has_more=True)
                messages.append(message)
    return paging.page(messages, position, has_more=False)


def _query(reading: Reading) -> tuple[object, ...]:
    return (
        reading.session_id,
        reading.after_seq,
        reading.through_seq,
        reading.descending,
        reading.roles,
        *((reading.basic, "parts") if reading.as_parts else (reading.basic,)),
        # Unset fields are left out, so that tokens of earlier versions stay valid.
        *(
            (name, getattr(reading, name))
            for name in ("branch_of", "after_message_id", "after_bookmark")
            if getattr(reading, name)
        ),
    )
