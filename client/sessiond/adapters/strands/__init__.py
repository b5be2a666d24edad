"""A `SessionRepository` of Strands Agents, kept by sessiond.

    manager = SessiondSessionManager("user-42", target="localhost:50051")
    agent = Agent(session_manager=manager)
    agent("Hello")

A message is one of a session, of the format "other" and the format_name "strands": the record that
Strands keeps of it, as its own repositories write it. Its seq is its message_id + 1. The agent
"default" has the session of the Strands session itself, each other agent one of its own. What
Strands keeps besides of sessions, agents and groups of agents is in the sessions' states.
"""

from sessiond.adapters.strands._manager import SessiondSessionManager
from sessiond.adapters.strands._repository import SessiondSessionRepository

__all__ = ["SessiondSessionManager", "SessiondSessionRepository"]
