"""Pages of sessions, listed by the server or ranked by the console; and pages of turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from sessiond import AsyncClient, SessionInfo, Turn
from sessiond.v1 import conversation_service_pb2, session_pb2, turn_pb2
from sessiond.v1 import session_service_pb2 as pb
from sessiond_console.filters import RANKS, Filter
from sessiond_console.site import FormError

PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
# Maximum number of sessions that a ranking reads. If more sessions match the filter, the page ranks
# only the most recently active ones, and says so.
MAX_RANKED = 5000
TURN_STATES = ("queued", "running", "completed", "failed", "aborted")


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the session list."""

    sessions: list[SessionInfo]
    next_token: str = ""
    """The token of the next page. Empty = this is the last one."""
    ranked: int = 0
    """How many sessions were ranked. 0 = the order is the server's."""
    is_partial: bool = False
    """Whether more sessions meet the filter than were ranked."""


async def list_page(api: AsyncClient, chosen: Filter, token: str, page_size: int) -> Listing:
    """Return a page of the sessions that meet a filter.

    Args:
        api: the client.
        chosen: the filter and the order.
        token: the page's token. Empty = the first page.
        page_size: maximum number of sessions on the page, 1 to 500.

    Raises:
        FormError: if the filter has a malformed value.
        SessiondError: if the call failed.
    """
    conditions = chosen.conditions()
    if chosen.order in RANKS:
        return await _ranked(api, conditions, chosen.order, page_size)
    request = pb.ListSessionsRequest(
        order=pb.SessionOrder.Value(f"SESSION_ORDER_{chosen.order.upper()}"),
        page_size=page_size,
        page_token=token,
        filter=proto_filter(conditions),
    )
    page = await api.call(lambda stubs: stubs.sessions.ListSessions, request, is_repeatable=True)
    return Listing([SessionInfo(session) for session in page.sessions], page.next_page_token)


async def _ranked(
    api: AsyncClient, conditions: Mapping[str, Any], rank: str, page_size: int
) -> Listing:
    request = pb.ListSessionsRequest(page_size=MAX_PAGE_SIZE, filter=proto_filter(conditions))
    best: list[SessionInfo] = []
    count = 0
    while True:
        page = await api.call(
            lambda stubs: stubs.sessions.ListSessions, request, is_repeatable=True
        )
        count += len(page.sessions)
        # Keep only the highest-ranked sessions, so that ranking thousands needs little memory.
        best += [SessionInfo(session) for session in page.sessions]
        best = sorted(best, key=lambda info: int(info[rank]), reverse=True)[:page_size]
        if not page.next_page_token or count >= MAX_RANKED:
            return Listing(best, ranked=count, is_partial=bool(page.next_page_token))
        request.page_token = page.next_page_token


def proto_filter(conditions: Mapping[str, Any]) -> pb.SessionFilter:
    """Return the result of Filter.conditions() as a protobuf filter."""
    result = pb.SessionFilter()
    for name, value in conditions.items():
        if name == "status":
            result.status = session_pb2.SessionStatus.Value(f"SESSION_STATUS_{value.upper()}")
        elif name.endswith("_contains"):
            getattr(result, name).CopyFrom(ParseDict(value, Struct()))
        elif name.endswith(("_from", "_before")):
            getattr(result, name).FromDatetime(value)
        else:
            setattr(result, name, value)
    return result


async def turn_page(
    api: AsyncClient, session_id: str, state: str, token: str, size: int = PAGE_SIZE
) -> tuple[list[Turn], str]:
    """Return a page of a session's turns, the newest first, and the token of the next page.

    Raises:
        FormError: if there is no such state.
        SessiondError: if the call failed.
    """
    if state and state not in TURN_STATES:
        raise FormError("state", f"must be one of {', '.join(TURN_STATES)}")
    request = conversation_service_pb2.ListTurnsRequest(
        session_id=session_id, page_size=size, page_token=token
    )
    if state:
        request.state = turn_pb2.TurnState.Value(f"TURN_STATE_{state.upper()}")
    page = await api.call(lambda stubs: stubs.conversations.ListTurns, request, is_repeatable=True)
    return [Turn(turn) for turn in page.turns], page.next_page_token
