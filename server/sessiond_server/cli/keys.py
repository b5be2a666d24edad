"""`sessiond keys`: accesses the database directly, so that the first key needs no other key."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from sessiond_server.cli.database import database, load_settings
from sessiond_server.cli.errors import CommandError
from sessiond_server.core.errors import Fault
from sessiond_server.core.limits import MAX_PAGE_SIZE
from sessiond_server.core.pagination import Page, Row
from sessiond_server.db.pool import Database, DatabaseUnavailable, PoolExhausted
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyRow, KeyStore


def run(arguments: list[str]) -> int:
    """Create, list or revoke API keys.

    Args:
        arguments: the subcommand and its flags, including settings such as --database-url.

    Returns:
        The exit code.

    Raises:
        CommandError: if the command fails.
    """
    options, rest = parser().parse_known_args(arguments)
    settings = load_settings(rest, "keys")
    with database(settings) as url:
        return asyncio.run(with_keys(url, lambda keys: _COMMANDS[options.command](keys, options)))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    result = argparse.ArgumentParser(
        prog="sessiond keys",
        description="Create, list and revoke API keys, directly in the database.",
        epilog="Settings such as --database-url may follow; see `sessiond serve --help`.",
    )
    commands = result.add_subparsers(dest="command", required=True)
    create = commands.add_parser(
        "create", help="create a key, and its project if that is new; the key is shown only once"
    )
    create.add_argument(
        "--project",
        required=True,
        metavar="NAME",
        help="name of the project: 1 to 64 characters of a-z, 0-9, '-' and '_'",
    )
    create.add_argument("--label", default="", metavar="TEXT", help="purpose of the key")
    create.add_argument("--admin", action="store_true", help="allow the key to call AdminService")
    listing = commands.add_parser("list", help="list a project's keys, without their secrets")
    listing.add_argument("--project", required=True, metavar="NAME", help="name of the project")
    revoke = commands.add_parser(
        "revoke", help="revoke a key; servers refuse it after at most --key-cache-s seconds"
    )
    revoke.add_argument("key_id", metavar="KEY_ID", help="id of the key, as `list` shows it")
    for command in (create, listing, revoke):
        command.add_argument("--json", action="store_true", help="print JSON")
    return result


async def with_keys(url: str, work: Callable[[Keys], Awaitable[None]]) -> int:
    """Run a command on the projects and keys of a database; return the exit code.

    Raises:
        CommandError: if the command fails.
    """
    return await with_database(url, lambda database: work(Keys(KeyStore(database))))


async def with_database(url: str, work: Callable[[Database], Awaitable[None]]) -> int:
    """Run a command on a database; return the exit code.

    Raises:
        CommandError: if the command fails.
    """
    store = Database(url, size=1)
    await store.open()
    try:
        await work(store)
    except (Fault, DatabaseUnavailable, PoolExhausted) as e:
        raise CommandError(str(e)) from None
    finally:
        await store.close()
    return 0


async def all_rows(page_of: Callable[[str], Awaitable[Page[Row]]]) -> list[Row]:
    """Return the rows of all pages; `page_of` returns the page for a page token."""
    page = await page_of("")
    rows = page.items
    while page.next_page_token:
        page = await page_of(page.next_page_token)
        rows += page.items
    return rows


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


async def _create(keys: Keys, options: argparse.Namespace) -> None:
    new = await keys.create_key(
        options.project, label=options.label, is_admin=options.admin, create_project=True
    )
    if options.json:
        print_json(_shown(new.key) | {"secret": new.secret})
        return
    # Only the key is written to stdout, so that a script can read it.
    sys.stderr.write(f"Key of project {options.project}. It is shown only once; keep it safe:\n")
    sys.stdout.write(f"{new.secret}\n")


async def _list(keys: Keys, options: argparse.Namespace) -> None:
    rows = await all_rows(lambda token: keys.list_keys(options.project, MAX_PAGE_SIZE, token))
    if options.json:
        print_json([_shown(row) for row in rows])
        return
    for row in rows:
        state = f"revoked {row.revoked_at:%Y-%m-%d %H:%M}" if row.revoked_at else "valid"
        kind = "admin" if row.is_admin else "project"
        sys.stdout.write(
            f"{row.key_id}  {kind:8} {row.created_at:%Y-%m-%d %H:%M}  {state:24} {row.label}\n"
        )


async def _revoke(keys: Keys, options: argparse.Namespace) -> None:
    row = await keys.revoke_key(options.key_id)
    if options.json:
        print_json(_shown(row))
        return
    sys.stdout.write(f"{row.key_id} of project {row.project} is revoked\n")


_COMMANDS: dict[str, Callable[[Keys, argparse.Namespace], Awaitable[None]]] = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
}


def _shown(row: KeyRow) -> dict[str, Any]:
    return {
        "key_id": row.key_id,
        "project": row.project,
        "label": row.label,
        "is_admin": row.is_admin,
        "created_at": row.created_at.isoformat(),
        "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
    }
