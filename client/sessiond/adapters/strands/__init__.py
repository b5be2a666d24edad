"""A `SessionRepository` of Strands Agents, kept by sessiond.

    manager = SessiondSessionManager("user-42", target="localhost:50051")
    agent = Agent(session_manager=manager)
    agent("Hello")

Each message of an agent is a message of a session, with the format "other" and the format_name
"strands". It holds the record that Strands' own repositories write. The message's seq is the
record's message_id + 1. The agent "default" uses the session with the id of the Strands session;
each other agent has a session of its own. The sessions' states keep the records of sessions, agents
and groups of agents.
"""

from sessiond.adapters.strands._manager import SessiondSessionManager
from sessiond.adapters.strands._repository import SessiondSessionRepository

__all__ = ["SessiondSessionManager", "SessiondSessionRepository"]
