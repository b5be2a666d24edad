"""`sessiond projects`: lists and deletes projects, directly in the database as `keys` does."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from sessiond_server.cli.database import database, load_settings
from sessiond_server.cli.errors import CommandError
from sessiond_server.cli.keys import with_keys
from sessiond_server.core.limits import MAX_PAGE_SIZE
from sessiond_server.projects.service import Keys


def run(arguments: list[str]) -> int:
    """List or delete projects.

    Args:
        arguments: the subcommand and its flags, including settings such as --database-url.

    Returns:
        The exit code.

    Raises:
        CommandError: if the command fails.
    """
    parser = argparse.ArgumentParser(
        prog="sessiond projects",
        description="List and delete projects, directly in the database.",
        epilog="Settings such as --database-url may follow; see `sessiond serve --help`.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list the projects by name")
    delete = commands.add_parser(
        "delete",
        help="delete a project with its keys, sessions, queues and assets; servers remove them in "
        "the background",
    )
    delete.add_argument("name", metavar="NAME", help="name of the project, except `default`")
    delete.add_argument("--yes", action="store_true", help="delete without asking for the name")
    delete.add_argument(
        "--allow-missing", action="store_true", help="succeed if there is no such project"
    )
    for command in (listing, delete):
        command.add_argument("--json", action="store_true", help="print JSON")
    options, rest = parser.parse_known_args(arguments)
    settings = load_settings(rest, "projects")
    if options.command == "delete" and not options.yes:
        _confirm(options.name)
    with database(settings) as url:
        return asyncio.run(with_keys(url, lambda keys: _COMMANDS[options.command](keys, options)))


def _confirm(name: str) -> None:
    """Ask for the name of the project.

    Raises:
        CommandError: if another name is typed, or if there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(
            f"this deletes project {name!r} with all that it has; --yes deletes it without asking",
            exit_code=2,
        )
    sys.stderr.write(f"Type {name} to delete the project with all that it has: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        raise CommandError("nothing was deleted")


async def _list(keys: Keys, options: argparse.Namespace) -> None:
    rows, token = [], ""
    while True:
        page = await keys.list_projects(MAX_PAGE_SIZE, token)
        rows += page.items
        if not (token := page.next_page_token):
            break
    if options.json:
        shown = [{"name": row.name, "created_at": row.created_at.isoformat()} for row in rows]
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
        return
    for row in rows:
        sys.stdout.write(f"{row.created_at:%Y-%m-%d %H:%M}  {row.name}\n")


async def _delete(keys: Keys, options: argparse.Namespace) -> None:
    await keys.delete_project(options.name, allow_missing=options.allow_missing)
    if options.json:
        sys.stdout.write(json.dumps({"name": options.name}) + "\n")
        return
    sys.stdout.write(
        f"project {options.name} is deleted; its contents are removed in the background\n"
    )


_COMMANDS: dict[str, Callable[[Keys, argparse.Namespace], Awaitable[None]]] = {
    "list": _list,
    "delete": _delete,
}
