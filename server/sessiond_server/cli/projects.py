"""`sessiond projects`: manages projects and their limits directly in the database."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace

from sessiond_server.cli.database import database, load_settings
from sessiond_server.cli.errors import CommandError
from sessiond_server.cli.keys import all_rows, print_json, with_database, with_keys
from sessiond_server.core.limits import MAX_PAGE_SIZE
from sessiond_server.db.pool import Database
from sessiond_server.projects.limits import LimitsOfProjects
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.quotas.limits import LIMIT_NAMES, ProjectLimits
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.store import QuotaStore


def run(arguments: list[str]) -> int:
    """List, limit or delete projects.

    Args:
        arguments: the subcommand and its flags, including settings such as --database-url.

    Returns:
        The exit code.

    Raises:
        CommandError: if the command fails.
    """
    options, rest = parser().parse_known_args(arguments)
    settings = load_settings(rest, "projects")
    if options.command == "delete" and not options.yes:
        _confirm(options.name)
    with database(settings) as url:
        if about_limits := _LIMIT_COMMANDS.get(options.command):
            defaults = settings.default_limits()
            return asyncio.run(
                with_database(
                    url, lambda opened: about_limits(_limits_in(opened, defaults), options)
                )
            )
        return asyncio.run(with_keys(url, lambda keys: _COMMANDS[options.command](keys, options)))


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    result = argparse.ArgumentParser(
        prog="sessiond projects",
        description="List, limit and delete projects, directly in the database.",
        epilog="Settings such as --database-url may follow; see `sessiond serve --help`.",
    )
    commands = result.add_subparsers(dest="command", required=True)
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
    limits = commands.add_parser(
        "limits", help="show or change the limits of a project; servers apply them within seconds"
    )
    limits.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="LIMIT=NUMBER",
        help=f"change a limit; 0 = no limit. Limits: {', '.join(map(_flag, LIMIT_NAMES))}",
    )
    limits.add_argument(
        "--unset",
        action="append",
        default=[],
        metavar="LIMIT",
        help="remove a limit of the project, so that the server's default applies",
    )
    usage = commands.add_parser("usage", help="show the usage of a project and its limits")
    for command in (limits, usage):
        command.add_argument("name", metavar="NAME", help="name of the project")
    for command in (listing, delete, limits, usage):
        command.add_argument("--json", action="store_true", help="print JSON")
    return result


def _confirm(name: str) -> None:
    """Ask for the name of the project.

    Raises:
        CommandError: if another name is typed, or if there is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(
            f"this deletes project {name!r} and everything in it; add --yes to delete it without "
            "asking",
            exit_code=2,
        )
    sys.stderr.write(f"Type {name} to delete the project and everything in it: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() != name:
        raise CommandError("nothing was deleted")


async def _list(keys: Keys, options: argparse.Namespace) -> None:
    rows = await all_rows(lambda token: keys.list_projects(MAX_PAGE_SIZE, token))
    if options.json:
        print_json([{"name": row.name, "created_at": row.created_at.isoformat()} for row in rows])
        return
    for row in rows:
        sys.stdout.write(f"{row.created_at:%Y-%m-%d %H:%M}  {row.name}\n")


async def _delete(keys: Keys, options: argparse.Namespace) -> None:
    await keys.delete_project(options.name, allow_missing=options.allow_missing)
    if options.json:
        print_json({"name": options.name})
        return
    sys.stdout.write(
        f"project {options.name} is deleted; its contents are removed in the background\n"
    )


def _limits_in(opened: Database, defaults: ProjectLimits) -> LimitsOfProjects:
    store = QuotaStore(opened)
    return LimitsOfProjects(KeyStore(opened), store, Quotas(store, defaults))


async def _limits(projects: LimitsOfProjects, options: argparse.Namespace) -> None:
    changes = dict(map(_change, options.set)) | {_limit_name(name): None for name in options.unset}
    row = await projects.get(options.name)
    if changes:
        row = await projects.set(options.name, replace(row.limits, **changes), row.etag)
    limits = asdict(row.limits)
    if options.json:
        print_json(limits)
        return
    for name, limit in limits.items():
        text = {None: "default", 0: "no limit"}.get(limit, f"{limit:,}" if limit else "")
        sys.stdout.write(f"{_flag(name):<22}  {text}\n")


async def _usage(projects: LimitsOfProjects, options: argparse.Namespace) -> None:
    usage = await projects.usage(options.name)
    # The rates of calls and messages are missing, because each server knows only its own.
    used = {
        "max_sessions": usage.stored.sessions,
        "max_bytes": usage.stored.bytes,
        "max_running_turns": usage.stored.running_turns,
        "model_tokens_per_day": usage.stored.model_tokens,
    }
    limits = asdict(usage.limits)
    if options.json:
        print_json({name: {"used": used[name], "limit": limits[name]} for name in used})
        return
    for name, amount in used.items():
        limit = "no limit" if limits[name] is None else f"of {limits[name]:,}"
        sys.stdout.write(f"{_flag(name):<22}  {amount:>16,}  {limit}\n")


def _change(text: str) -> tuple[str, int]:
    """Return the name and the value of a limit to set.

    Raises:
        CommandError: if the text is not LIMIT=NUMBER.
    """
    name, _, value = text.partition("=")
    if not value.isdecimal():
        raise CommandError(f"--set {text}: expected LIMIT=NUMBER; 0 = no limit", exit_code=2)
    return _limit_name(name), int(value)


def _limit_name(flag: str) -> str:
    name = flag.replace("-", "_")
    if name not in LIMIT_NAMES:
        known = ", ".join(map(_flag, LIMIT_NAMES))
        raise CommandError(f"there is no limit {flag!r}; the limits are {known}", exit_code=2)
    return name


def _flag(name: str) -> str:
    return name.replace("_", "-")


_LIMIT_COMMANDS: dict[str, Callable[[LimitsOfProjects, argparse.Namespace], Awaitable[None]]] = {
    "limits": _limits,
    "usage": _usage,
}
_COMMANDS: dict[str, Callable[[Keys, argparse.Namespace], Awaitable[None]]] = {
    "list": _list,
    "delete": _delete,
}
