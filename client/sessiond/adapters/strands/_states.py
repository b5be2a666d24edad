"""The records of Strands' sessions and agents, kept in the states of sessions."""

from datetime import datetime
from typing import cast

from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent

from sessiond._types.session import SessionInfo
from sessiond.adapters._backend import part
from sessiond.errors import InvalidField

SESSION = "strands_session"
"""Key of a session's record."""

AGENT = "strands_agent"
"""Key of an agent's record."""

_GROUP = "strands_multi_agent:"
_MAX_GROUP = 200
# The state that the default conversation manager writes if nothing was removed.
_NOTHING_REMOVED = {
    "__name__": "SlidingWindowConversationManager",
    "removed_message_count": 0,
    "model_call_count": 0,
}


def agent_in(info: SessionInfo, agent_id: str) -> SessionAgent | None:
    """Return the agent of a session; None if there is none.

    If only others have stored messages there, the agent has no state.
    """
    kept = (info.state or {}).get(AGENT)
    if kept is not None:
        return cast("SessionAgent", SessionAgent.from_dict(kept))
    if not info.last_seq:
        return None
    return SessionAgent(
        agent_id, {}, {**_NOTHING_REMOVED}, {}, *times_of(info.created_at, info.active_at)
    )


def group_key(id: str) -> str:
    """Return the key of the state of a group of agents.

    Raises:
        SessionException: if the id is empty or not valid Unicode.
    """
    try:
        return _GROUP + part(id, _MAX_GROUP, "multi_agent_id")
    except InvalidField as error:
        raise SessionException(str(error)) from error


def times_of(created: datetime, active: datetime) -> tuple[str, str]:
    """Return the times of a session as Strands writes them."""
    return created.isoformat(), active.isoformat()
