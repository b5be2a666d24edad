"""The flags of `sessiond sessions`."""

import argparse
from datetime import datetime
from typing import Any, TypeAlias

from sessiond_server.cli.client import add_flags, count, json_object, seconds

_FILTERS = (
    "session_id_prefix",
    "user",
    "status",
    "model",
    "config_contains",
    "metadata_contains",
    "created_from",
    "created_before",
    "active_from",
    "active_before",
)
_TIMES = "Give times in ISO 8601, e.g. 2026-01-31T12:00:00Z; times without a zone are local times."


_LINES = "print JSON lines, one for each session; times are in UTC"
_DOCUMENT = "print one JSON document; times are in UTC"

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command."""
    result = argparse.ArgumentParser(
        prog="sessiond sessions",
        description="Work with the sessions of a running server.",
        epilog="`sessiond sessions COMMAND --help` describes a subcommand.",
        allow_abbrev=False,
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        *(_add_list, _add_show, _add_tail, _add_copy, _add_rewind),
        *(_add_export, _add_import, _add_delete),
    ):
        add(commands)
    return result


def filters(given: argparse.Namespace) -> dict[str, Any]:
    """Return the given filters as arguments for the client."""
    return {name: value for name in _FILTERS if (value := getattr(given, name)) is not None}


def _command(
    commands: _Commands, name: str, help: str, json_help: str, epilog: str = ""
) -> argparse.ArgumentParser:
    new = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=epilog,
        allow_abbrev=False,
    )
    add_flags(new)
    new.add_argument("--json", action="store_true", help=json_help)
    return new


def _add_list(commands: _Commands) -> None:
    listing = _command(
        commands,
        "list",
        "list sessions, by default the 50 most recently active ones",
        _LINES,
        f"Times are shown in local time. {_TIMES}",
    )
    _add_filters(listing)
    listing.add_argument(
        "--order",
        choices=["active_desc", "active_asc", "created_desc", "created_asc", "id_asc"],
        help="order of the list. Default: active_desc",
    )
    listing.add_argument(
        "--limit",
        type=count,
        default=50,
        metavar="N",
        help="maximum number of sessions; 0 = all. Default: 50",
    )
    listing.add_argument(
        "--with-state", action="store_true", help="with --json: also print the sessions' states"
    )


def _add_show(commands: _Commands) -> None:
    show = _command(
        commands,
        "show",
        "show a session: settings, counters, tokens, origin, tasks and bookmarks",
        f"{_DOCUMENT}. With --messages: JSON lines, the session first, then one for each message",
        "Times are shown in local time.",
    )
    show.add_argument("session_id", metavar="ID")
    show.add_argument(
        "--messages",
        type=count,
        nargs="?",
        const=0,
        metavar="N",
        help="also show the newest N messages; without N: all of them",
    )
    show.add_argument(
        "--branch-of",
        type=count,
        metavar="SEQ",
        help="with --messages: only those of the branch that ends with message SEQ",
    )


def _add_tail(commands: _Commands) -> None:
    tail = _command(
        commands,
        "tail",
        "show the newest messages of a session",
        "print JSON lines, one for each message; times are in UTC",
        "Times are shown in local time.",
    )
    tail.add_argument("session_id", metavar="ID")
    tail.add_argument(
        "-n", "--lines", type=count, default=10, metavar="N", help="number of messages. Default: 10"
    )
    tail.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="continue with new messages as they arrive, until Ctrl-C",
    )
    tail.add_argument(
        "--live",
        action="store_true",
        help="with --follow: print answers while they are written, not only once they are stored",
    )


def _add_copy(commands: _Commands) -> None:
    copy = _command(
        commands,
        "copy",
        "copy a session, at a cost independent of its size, and print the copy's id",
        _DOCUMENT,
    )
    copy.add_argument("session_id", metavar="ID")
    copy.add_argument(
        "--new-id", metavar="ID", help="id of the copy. Default: the server generates one"
    )
    cut = copy.add_mutually_exclusive_group()
    cut.add_argument(
        "--up-to-seq",
        type=count,
        metavar="SEQ",
        help="last seq to copy; 0 = no message. Default: the newest",
    )
    cut.add_argument("--up-to-bookmark", metavar="NAME", help="bookmark at which the copy ends")
    for name in ("title", "user", "model"):
        copy.add_argument(
            f"--{name}",
            metavar="TEXT",
            help=f'{name} of the copy; "" = none. Default: same as the source',
        )
    for name in ("config", "metadata"):
        copy.add_argument(
            f"--{name}",
            type=json_object,
            metavar="JSON",
            help=f"{name} of the copy, a JSON object. Default: same as the source",
        )
    expiry = copy.add_mutually_exclusive_group()
    expiry.add_argument(
        "--idle-ttl",
        type=seconds,
        metavar="SECONDS",
        help="idle time after which the copy expires. Default: same as the source",
    )
    expiry.add_argument(
        "--never-expires", action="store_true", help="keep the copy until it is deleted"
    )
    copy.add_argument(
        "--keep-processing-status",
        action="store_true",
        help="keep the messages' status in queues. Default: every message is pending in every "
        "queue",
    )
    copy.add_argument(
        "--keep-task-links",
        action="store_true",
        help="keep the links of tasks to messages. Default: the copy's tasks have no links",
    )


def _add_rewind(commands: _Commands) -> None:
    rewind = _command(
        commands,
        "rewind",
        "remove the newest messages of a session, at a cost independent of its size",
        _DOCUMENT,
        "The messages stay in copies of the session. Otherwise they are purged soon after.",
    )
    rewind.add_argument("session_id", metavar="ID")
    kept = rewind.add_mutually_exclusive_group(required=True)
    kept.add_argument("--to-seq", type=count, metavar="SEQ", help="last seq to keep; 0 = none")
    kept.add_argument("--drop-last", type=count, metavar="N", help="number of messages to remove")
    kept.add_argument("--to-bookmark", metavar="NAME", help="bookmark after which to remove")
    kept.add_argument(
        "--before-message-id",
        metavar="ID",
        help="message_id of the first message to remove; all later ones are removed as well",
    )
    rewind.add_argument(
        "--expected-last-seq",
        type=count,
        metavar="SEQ",
        help="fail unless the session's last_seq is this. Default: any",
    )
    rewind.add_argument(
        "--expected-epoch",
        type=count,
        metavar="N",
        help="fail unless the session's epoch, the number of its rewinds, is this. Default: any",
    )
    rewind.add_argument(
        "--abort-turn",
        action="store_true",
        help="abort the running turn. Default: fail if a turn is running",
    )


def _add_export(commands: _Commands) -> None:
    export = _command(
        commands,
        "export",
        "export a session with its tasks, bookmarks, messages and assets",
        "with --output: print what was exported as JSON",
    )
    export.add_argument("session_id", metavar="ID")
    export.add_argument(
        "-o",
        "--output",
        default="-",
        metavar="FILE",
        help="file to write; - = standard output. An existing file is replaced once the export is "
        "complete. Default: -",
    )
    export.add_argument(
        "--format",
        choices=["jsonl", "json"],
        default="jsonl",
        help="JSON lines, or one JSON document. Default: jsonl",
    )
    export.add_argument(
        "--no-assets",
        dest="assets",
        action="store_false",
        help="leave out the content of assets; the project of the import must already have them",
    )


def _add_import(commands: _Commands) -> None:
    importing = _command(
        commands,
        "import",
        "import an exported session, or with --from the transcripts of another program",
        _DOCUMENT,
        "A session or a transcript is imported completely or not at all. With --from, a "
        "repeated command adds only what is new. Transcripts that fail are listed at the end, "
        "and the exit code is 1.",
    )
    importing.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="output of `sessiond sessions export`, in either format; - = standard input. With "
        "--from: files or directories, any number",
    )
    importing.add_argument(
        "--session-id", metavar="ID", help="id of the new session. Default: as exported"
    )
    importing.add_argument(
        "--extract-files",
        action="store_true",
        help="store the files inside messages as assets. Not with --from",
    )
    group = importing.add_argument_group("transcripts of other programs")
    group.add_argument(
        "--from",
        dest="program",
        choices=["claude-code", "codex", "openai-export", "sharegpt", "langchain"],
        help="the program that wrote the files",
    )
    group.add_argument(
        "--prefix", default="", metavar="TEXT", help="prefix of the ids of new sessions"
    )
    group.add_argument("--user", metavar="TEXT", help="user of new sessions")
    group.add_argument("--model", metavar="NAME", help="model of new sessions")
    group.add_argument(
        "--keep-bad-lines",
        action="store_true",
        help="store unreadable lines too, each as a message, instead of refusing the whole "
        "transcript",
    )


def _add_delete(commands: _Commands) -> None:
    delete = _command(
        commands,
        "delete",
        "delete sessions permanently, by id or by filter",
        _DOCUMENT,
        f"Deleting by a filter counts the sessions first, and asks. {_TIMES}",
    )
    delete.add_argument("session_ids", metavar="ID", nargs="*")
    _add_filters(delete)
    delete.add_argument(
        "--all",
        action="store_true",
        help="delete every session of the project (no filter may be given)",
    )
    delete.add_argument(
        "--dry-run", action="store_true", help="count the sessions without deleting them"
    )
    delete.add_argument(
        "--allow-missing",
        action="store_true",
        help="with ids: succeed even if there is no session with an id",
    )
    delete.add_argument(
        "-y",
        "--yes",
        action="store_true",
        help="delete without asking; required if a filter is given and there is no terminal",
    )


def _add_filters(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("filters (a session must match all of them)")
    group.add_argument(
        "--prefix",
        dest="session_id_prefix",
        metavar="TEXT",
        help="beginning of the id, case-sensitive",
    )
    group.add_argument("--user", metavar="TEXT", help="user of the session")
    group.add_argument("--status", choices=["active", "destroyed"], help="status of the session")
    group.add_argument("--model", metavar="NAME", help="model of the session")
    group.add_argument(
        "--config-contains",
        type=json_object,
        metavar="JSON",
        help="JSON object that the config contains",
    )
    group.add_argument(
        "--metadata-contains",
        type=json_object,
        metavar="JSON",
        help="JSON object that the metadata contains",
    )
    group.add_argument(
        "--created-from", type=_time, metavar="TIME", help="created at this time or later"
    )
    group.add_argument(
        "--created-before", type=_time, metavar="TIME", help="created before this time"
    )
    group.add_argument(
        "--active-from", type=_time, metavar="TIME", help="last active at this time or later"
    )
    group.add_argument(
        "--active-before", type=_time, metavar="TIME", help="last active before this time"
    )


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO 8601 time") from None
    return time if time.tzinfo else time.astimezone()
