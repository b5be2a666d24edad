"""If a parent_seq names no earlier message, the error names the message with that parent_seq."""

from typing import Any

import pytest

from sessiond import AsyncClient, NewMessage, ParentNotFound
from sessiond_server.server import Running

SAID = {"role": "user", "content": "x"}


def following(seq: int) -> NewMessage:
    return NewMessage(SAID, parent_seq=seq)


CALLS: dict[str, Any] = {
    "an append": lambda session: session.store_messages([SAID, following(4), following(9)]),
    "an append without what is stored": lambda session: session.store_messages(
        [NewMessage(SAID, message_id="a"), following(3)], on_duplicate="skip"
    ),
    "an append to a new session": lambda session: session._sessions.store_messages(
        "new", [SAID, following(5)], create={}
    ),
    "a rewind": lambda session: session.rewind(to_seq=1, messages=[SAID, following(3)]),
    "a turn": lambda session: session.send_and_wait(messages=[SAID, following(8)]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_the_message_is_named(server: Running, call: str) -> None:
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        session = await client.create_session(model="echo")
        await session.store_messages([NewMessage(SAID, message_id="a"), SAID])
        text = r"messages\[1\].parent_seq: does not name an earlier message"
        with pytest.raises(ParentNotFound, match=text) as raised:
            await CALLS[call](session)
        fields = [violation.field for violation in raised.value.field_violations]
        # The error of a turn has no fields.
        assert fields == ([] if call == "a turn" else ["messages[1].parent_seq"])
        assert (await session.refresh()).last_seq == 2
