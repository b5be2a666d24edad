"""The calls behind a page, to be copied into a program or a shell."""

import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

Snippet = tuple[str, str]
"""A language, and the code."""


def of_list(target: str, conditions: Mapping[str, Any], order: str) -> list[Snippet]:
    """Return the calls that list the sessions of a filter."""
    keywords = {**conditions, "order": order}
    given = ", ".join(f"{name}={_python(value)}" for name, value in keywords.items())
    filter_json = {name: _proto_json(name, value) for name, value in conditions.items()}
    request = {"filter": filter_json, "order": f"SESSION_ORDER_{order.upper()}"}
    uses_time = any(isinstance(value, datetime) for value in conditions.values())
    head = "from datetime import datetime\n\n" if uses_time else ""
    python = (
        f"{head}from sessiond import Client\n\nwith Client({target!r}) as client:\n"
        f"    for session in client.list_sessions({given}):\n"
        "        print(session.session_id, session.summary)\n"
    )
    return [("Python", python), ("grpcurl", _grpcurl(target, "ListSessions", request))]


def of_session(target: str, session_id: str) -> list[Snippet]:
    """Return the calls that read the messages of a session."""
    python = (
        f"from sessiond import Client\n\nwith Client({target!r}) as client:\n"
        f"    session = client.get_session({session_id!r})\n"
        "    for message in session.get_messages():\n"
        "        print(message.seq, message.role, message.content)\n"
    )
    request = {"session_id": session_id}
    return [
        ("Python", python),
        ("grpcurl", _grpcurl(target, "GetMessages", request)),
        ("sessiond", f"sessiond sessions show {shlex.quote(session_id)} --messages\n"),
    ]


def _grpcurl(target: str, method: str, request: Mapping[str, Any]) -> str:
    data = shlex.quote(json.dumps(request))
    return (
        f"grpcurl -plaintext -d {data} \\\n"
        f"  {shlex.quote(target)} sessiond.v1.SessionService/{method}\n"
    )


def _python(value: Any) -> str:
    if isinstance(value, datetime):
        return f"datetime.fromisoformat({value.isoformat()!r})"
    return repr(value)


def _proto_json(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return f"SESSION_STATUS_{value.upper()}" if name == "status" else value
