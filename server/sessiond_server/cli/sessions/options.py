"""The flags of `sessiond sessions`."""

import argparse
import json
from datetime import datetime
from typing import Any

from sessiond_server.cli.client import add_flags, count, seconds

_FILTERS = (
    "session_id_prefix",
    "user",
    "state",
    "model",
    "config_contains",
    "metadata_contains",
    "created_from",
    "created_before",
    "active_from",
    "active_before",
)
_TIMES = "Times that are given are ISO 8601, e.g. 2026-01-31T12:00:00Z; without a time zone they are local."


def parser() -> argparse.ArgumentParser:
    """Of the whole command."""
    result = argparse.ArgumentParser(
        prog="sessiond sessions",
        description="Work with the sessions of a running server.",
        epilog="`sessiond sessions COMMAND --help` says more.",
        allow_abbrev=False,
    )
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, json_help: str, epilog: str = "") -> argparse.ArgumentParser:
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

    lines = "print JSON lines, one a session; times are in UTC"
    listing = command(
        "list",
        "list sessions, by default the most recently active 50",
        lines,
        f"Times are shown in local time. {_TIMES}",
    )
    _add_filters(listing)
    listing.add_argument(
        "--order",
        choices=["active_desc", "created_desc", "created_asc", "id_asc"],
        help="default: active_desc",
    )
    listing.add_argument(
        "--limit",
        type=count,
        default=50,
        metavar="N",
        help="how many sessions at the most; 0 = all. Default: 50",
    )

    document = "print one JSON document; times are in UTC"
    show = command(
        "show",
        "show a session: settings, counters, tokens, origin, tasks, bookmarks",
        f"{document}. With --messages: JSON lines, the session first, then a message a line",
        "Times are shown in local time.",
    )
    show.add_argument("session_id", metavar="ID")
    show.add_argument(
        "--messages",
        type=count,
        nargs="?",
        const=0,
        metavar="N",
        help="its newest N messages too; without N: all of them",
    )

    tail = command(
        "tail",
        "show the newest messages of a session",
        "print JSON lines, one a message; times are in UTC",
        "Times are shown in local time.",
    )
    tail.add_argument("session_id", metavar="ID")
    tail.add_argument(
        "-n", "--lines", type=count, default=10, metavar="N", help="how many messages. Default: 10"
    )
    tail.add_argument(
        "-f",
        "--follow",
        action="store_true",
        help="go on with new messages as they come, until Ctrl-C",
    )

    copy = command(
        "copy",
        "copy a session, at the same cost whatever its size, and print the copy's id",
        document,
    )
    copy.add_argument("session_id", metavar="ID")
    copy.add_argument("--new-id", metavar="ID", help="the copy's id. Default: the server makes one")
    cut = copy.add_mutually_exclusive_group()
    cut.add_argument(
        "--up-to-seq",
        type=count,
        metavar="SEQ",
        help="the last seq to copy; 0 = no message. Default: the newest",
    )
    cut.add_argument("--up-to-bookmark", metavar="NAME", help="the same by a bookmark's name")
    for name in ("title", "user", "model"):
        copy.add_argument(f"--{name}", help='of the copy; "" = none. Default: the source\'s')
    for name in ("config", "metadata"):
        copy.add_argument(
            f"--{name}",
            type=_object,
            metavar="JSON",
            help="of the copy: a JSON object. Default: the source's",
        )
    expiry = copy.add_mutually_exclusive_group()
    expiry.add_argument(
        "--idle-ttl",
        type=seconds,
        metavar="SECONDS",
        help="how long the copy lives unused. Default: as the source",
    )
    expiry.add_argument(
        "--never-expires", action="store_true", help="keep the copy until it is deleted"
    )
    copy.add_argument(
        "--keep-processing-status",
        action="store_true",
        help="default: every message of the copy is pending in every queue",
    )
    copy.add_argument(
        "--keep-task-links",
        action="store_true",
        help="default: the copy's tasks have no links to messages",
    )

    export = command(
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
        help="- = standard output (default). A file is replaced when all is there",
    )
    export.add_argument(
        "--format",
        choices=["jsonl", "json"],
        default="jsonl",
        help="JSON lines (default), or one JSON document",
    )
    export.add_argument(
        "--no-assets",
        dest="assets",
        action="store_false",
        help="leave out the contents of assets; the project that it is imported into must have them already",
    )

    importing = command(
        "import",
        "make a session of an exported one, whole or not at all, and print its id",
        document,
    )
    importing.add_argument(
        "file",
        metavar="FILE",
        help="of `sessiond sessions export`, in either format; - = standard input",
    )
    importing.add_argument(
        "--session-id", metavar="ID", help="of the new session. Default: the exported one"
    )

    delete = command(
        "delete",
        "delete sessions for good: those that are named, or all that meet a filter",
        document,
        f"Before it deletes by a filter it counts, and asks. {_TIMES}",
    )
    delete.add_argument("session_ids", metavar="ID", nargs="*")
    _add_filters(delete)
    delete.add_argument(
        "--all", action="store_true", help="every session of the project; in the place of a filter"
    )
    delete.add_argument("--dry-run", action="store_true", help="delete nothing, only count")
    delete.add_argument(
        "-y",
        "--yes",
        action="store_true",
        help="do not ask; needed for a filter where there is no terminal to ask at",
    )
    return result


def filters(given: argparse.Namespace) -> dict[str, Any]:
    """The filters that were given, as the client takes them."""
    return {name: value for name in _FILTERS if (value := getattr(given, name)) is not None}


def _add_filters(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("filters, combined with 'and'")
    group.add_argument(
        "--prefix",
        dest="session_id_prefix",
        metavar="TEXT",
        help="the beginning of the id, letter case included",
    )
    group.add_argument("--user")
    group.add_argument("--state", choices=["active", "destroyed"])
    group.add_argument("--model")
    group.add_argument(
        "--config-contains",
        type=_object,
        metavar="JSON",
        help="a JSON object that the config contains",
    )
    group.add_argument(
        "--metadata-contains",
        type=_object,
        metavar="JSON",
        help="a JSON object that the metadata contains",
    )
    group.add_argument("--created-from", type=_time, metavar="TIME", help="created then or later")
    group.add_argument("--created-before", type=_time, metavar="TIME")
    group.add_argument(
        "--active-from", type=_time, metavar="TIME", help="last active then or later"
    )
    group.add_argument("--active-before", type=_time, metavar="TIME")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO 8601 time") from None
    return time if time.tzinfo else time.astimezone()


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"is not JSON: {e}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("is no JSON object")
    return value
