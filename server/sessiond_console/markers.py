"""The markers beside messages: bookmarks, copies, tasks, and turns without an answer."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from sessiond import AsyncClient, Message, Task, Turn
from sessiond_console.listing import turn_page

# Only the newest copies and turns are marked. A session has at most 1,000 bookmarks and tasks.
MAX_COPIES = 500
MAX_TURNS = 200


@dataclass(slots=True)
class Markers:
    """Markers by the seq of the message that they follow."""

    bookmarks: dict[int, list[str]] = field(default_factory=dict)
    """Names of bookmarks."""
    copies: dict[int, list[str]] = field(default_factory=dict)
    """Ids of the copies whose last copied message is this one."""
    tasks: dict[int, list[Task]] = field(default_factory=dict)
    """Tasks that the message belongs to."""
    turns: dict[int, Turn] = field(default_factory=dict)
    """Turns that failed or were aborted after the message."""
    open_turns: list[Turn] = field(default_factory=list)
    """The running turn, and those that wait, in their order."""
    ended: dict[str, Turn] = field(default_factory=dict)
    """Turns that failed or were aborted, by their ids."""

    def place_turns(self, messages: Iterable[Message]) -> None:
        """Mark the last message of each turn that ended without an answer."""
        last = {message.turn.turn_id: message.seq for message in messages if message.turn}
        self.turns = {
            seq: self.ended[turn_id] for turn_id, seq in last.items() if turn_id in self.ended
        }


async def markers_of(api: AsyncClient, session_id: str) -> Markers:
    """Return a session's markers.

    Raises:
        SessiondError: if a call failed.
    """
    found = Markers()

    async def bookmarks() -> None:
        async for mark in api.bookmarks.list(session_id, page_size=500):
            found.bookmarks.setdefault(mark.seq, []).append(mark.name)

    async def copies() -> None:
        count = 0
        async for copy in api.sessions.copies(session_id, page_size=MAX_COPIES):
            found.copies.setdefault(copy.seq, []).append(copy.session_id)
            count += 1
            if count == MAX_COPIES:
                break

    async def tasks() -> None:
        async for task in api.tasks.list(session_id, page_size=500):
            for seq in task.message_seqs:
                found.tasks.setdefault(seq, []).append(task)

    async def turns() -> None:
        newest, _ = await turn_page(api, session_id, "", "", MAX_TURNS)
        for turn in reversed(newest):
            if turn.state in ("running", "queued"):
                found.open_turns.append(turn)
            elif turn.state != "completed":
                found.ended[turn.turn_id] = turn

    await asyncio.gather(bookmarks(), copies(), tasks(), turns())
    return found
