"""`sessiond keys create|list|revoke`: works on the database itself, so that the first key needs none."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from sessiond_server.cli.database import database, load_settings
from sessiond_server.cli.errors import CommandError
from sessiond_server.core.errors import Fault
from sessiond_server.db.pool import Database, DatabaseUnavailable, PoolExhausted
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyRow, KeyStore


def run(arguments: list[str]) -> int:
    """Create, list or revoke. Settings (--database-url, --data-dir, ...) may follow the command's own flags."""
    parser = argparse.ArgumentParser(prog="sessiond keys")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser(
        "create", help="make a key, and its project if it is new; the key is shown once"
    )
    create.add_argument("--project", required=True, help="1 to 64 characters of a-z, 0-9, '-', '_'")
    create.add_argument("--label", default="", help="what the key is for")
    create.add_argument("--admin", action="store_true", help="let it call AdminService")
    listing = commands.add_parser("list", help="list a project's keys, without their secrets")
    listing.add_argument("--project", required=True)
    revoke = commands.add_parser("revoke", help="end a key; servers refuse it within seconds")
    revoke.add_argument("key_id")
    for command in (create, listing, revoke):
        command.add_argument("--json", action="store_true", help="print JSON")
    options, rest = parser.parse_known_args(arguments)
    settings = load_settings(rest, "keys")
    with database(settings) as url:
        return asyncio.run(_with_keys(url, lambda keys: _COMMANDS[options.command](keys, options)))


async def _with_keys(url: str, work: Callable[[Keys], Awaitable[None]]) -> int:
    store = Database(url, size=1)
    await store.open()
    try:
        await work(Keys(KeyStore(store)))
    except Fault as e:
        raise CommandError(e.message) from None
    except (DatabaseUnavailable, PoolExhausted) as e:
        raise CommandError(str(e)) from None
    finally:
        await store.close()
    return 0


async def _create(keys: Keys, options: argparse.Namespace) -> None:
    new = await keys.create_key(
        options.project, label=options.label, is_admin=options.admin, create_project=True
    )
    if options.json:
        _print(_shown(new.key) | {"secret": new.secret})
        return
    # The key alone on stdout, so that a script can catch it.
    sys.stderr.write(f"A key of project {options.project}. It is shown this once; keep it safe:\n")
    sys.stdout.write(f"{new.secret}\n")


async def _list(keys: Keys, options: argparse.Namespace) -> None:
    rows = await keys.list_keys(options.project)
    if options.json:
        _print([_shown(row) for row in rows])
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
        _print(_shown(row))
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


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
