"""The commands have the options of the client's calls."""

import argparse
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessiond import Client, Session
from sessiond._sync._admin import Admin
from sessiond._sync._bookmarks import Bookmarks
from sessiond._sync._sessions import Sessions
from sessiond._sync._tasks import Tasks
from sessiond_server import cli
from sessiond_server.cli import chat, keys, projects
from sessiond_server.cli.sessions import COMMANDS, options

pytestmark = pytest.mark.unit

# The calls that each command stands for. Keys and projects are changed in the database itself.
CALLS: dict[str, tuple[Callable[..., Any], ...]] = {
    "sessions list": (Client.list_sessions,),
    "sessions show": (Sessions.get, Sessions.get_messages, Tasks.list, Bookmarks.list),
    "sessions tail": (Sessions.get_messages, Sessions.events),
    "sessions copy": (Sessions.copy,),
    "sessions rewind": (Sessions.rewind,),
    "sessions delete": (Client.delete_session, Sessions.delete_many),
    "sessions export": (Sessions.export, Sessions.export_to),
    "sessions import": (Sessions.import_session, Sessions.import_transcripts),
    "chat": (Client.create_session, Session.stream),
    "keys create": (Admin.create_project, Admin.create_api_key),
    "keys list": (Admin.list_api_keys,),
    "keys revoke": (Admin.revoke_api_key,),
    "projects list": (Admin.list_projects,),
    "projects delete": (Admin.delete_project,),
    "projects limits": (Admin.get_project_limits, Admin.set_project_limits),
    "projects usage": (Admin.get_project_usage,),
}

# Commands of the operator, which call no RPC of the API, or no RPC with options.
OTHERS = {
    *("serve", "migrate", "console", "health", "backup", "restore", "config", "verify", "version"),
}

# Options that have another name in a command.
NAMES = {
    ("sessions copy", "new_session_id"): "new_id",
    ("sessions delete", "session_id"): "session_ids",
    ("sessions export", "path"): "output",
    ("sessions import", "source"): "files",
    ("sessions import", "paths"): "files",
    ("sessions import", "id_prefix"): "prefix",
    ("sessions import", "create"): "user",
    ("keys create", "name"): "project",
    ("keys create", "is_admin"): "admin",
    ("projects limits", "project"): "name",
    ("projects limits", "limits"): "set",
    ("projects usage", "project"): "name",
    ("chat", "get_or_create"): "new",
}

# Options that no command has, with the reason.
NOWHERE = {
    "request_id": "the client makes one for each call, so that its retries are safe",
    "page_size": "a command prints all pages; --limit limits the list of sessions",
    "progress": "a command shows progress whenever there is a terminal",
}

# Options that a command lacks, with the reason.
LEFT_OUT = {
    "sessions show": {
        "after_seq": "--messages N shows the newest messages; `export` has all of them",
        "after_bookmark": "as after_seq",
        "after_message_id": "as after_seq",
        "through_seq": "the session as it is now is shown",
        "limit": "--messages N",
        "order": "the messages are shown in the order in which they were stored",
        "roles": "a person reads the conversation whole; --json has the roles to select by",
        "expected_epoch": "only for readers that continue after a seq",
        "view": "the contents are what is to be read",
        "status": "all tasks are shown, with their statuses",
    },
    "sessions tail": {
        "after_seq": "-n N begins with the newest messages",
        "after_bookmark": "as after_seq",
        "after_message_id": "as after_seq",
        "after_epoch": "the command passes on the epoch that it has read",
        "through_seq": "the command ends with the newest message, or follows",
        "limit": "-n N",
        "order": "the messages are shown in the order in which they were stored",
        "roles": "a person reads the conversation whole; --json has the roles to select by",
        "branch_of": "`show --branch-of` shows one branch",
        "expected_epoch": "as after_epoch",
        "view": "the contents are what is to be read",
        "types": "the command prints messages and rewinds",
        "follow_recreated": "the command ends with the session that it was started for",
        "on_connection": "a callback",
    },
    "sessions copy": {
        "state": "programs keep their state there, and change it themselves",
        "remove_state": "as state",
    },
    "sessions rewind": {
        "messages": "new messages come from programs, not from flags",
        "format": "of the new messages",
        "format_name": "of the new messages",
        "return_removed": "`tail -n N` shows the messages before they are removed",
        "state": "programs keep their state there, and change it themselves",
        "remove_state": "as state",
        "state_etag": "as state",
    },
    "sessions delete": {"etag": "one etag cannot fit several sessions"},
    "chat": {
        "user": "of new sessions; a program that creates sessions for users has them",
        "title": "as user",
        "config": "as user",
        "metadata": "as user",
        "idle_ttl": "as user",
        "never_expires": "as user",
        "state": "as user",
        "prompt": "the lines of standard input",
        "messages": "the lines of standard input are prompts",
        "format": "of messages",
        "extract_files": "of messages",
        "attachments": "a line of text has no files",
        "mode": "a prompt is sent when the answer to the one before has ended",
        "keep_partial": "the setting of the server applies",
        "expected_epoch": "a person sees what is stored",
        "parent_seq": "a conversation continues with its newest message",
        "abort_on_exit": "Ctrl-C aborts an answer; a lost connection must not",
    },
    "keys create": {"get_or_create": "a missing project is always created"},
    "projects limits": {"etag": "the command passes on the etag that it has read"},
}


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command's name and its parser."""
    yield "chat", chat.parser()
    for name, parser in (
        ("sessions", options.parser()),
        ("keys", keys.parser()),
        ("projects", projects.parser()),
    ):
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{name} {sub}", found) for sub, found in action.choices.items())


def options_of(call: Callable[..., Any]) -> Iterator[str]:
    """Yield the parameters of a call, and the keys of its `**keywords`."""
    hints = typing.get_type_hints(call)
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            yield name
        elif typing.is_typeddict(keywords := typing.get_args(hints[name])[0]):
            yield from typing.get_type_hints(keywords)


PARSERS = dict(parsers())


def test_every_command_is_compared() -> None:
    assert PARSERS.keys() == CALLS.keys()
    assert {f"sessions {name}" for name in COMMANDS} < CALLS.keys()
    assert {name.split()[0] for name in CALLS} | OTHERS == cli.COMMANDS.keys()


@pytest.mark.parametrize("command", CALLS)
def test_a_command_has_the_options_of_its_calls(command: str) -> None:
    flags = {action.dest for action in PARSERS[command]._actions}
    if not command.startswith(("sessions", "chat")):
        flags.add("timeout")  # these commands make no calls
    wanted = {name for call in CALLS[command] for name in options_of(call)} - {"self"}
    known = {name for name in wanted if NAMES.get((command, name), name) in flags}
    left_out = LEFT_OUT.get(command, {})
    assert wanted - known - NOWHERE.keys() == left_out.keys()


def test_the_tables_name_only_options_of_calls() -> None:
    for command, name in NAMES:
        assert name in {name for call in CALLS[command] for name in options_of(call)}
