"""`sessiond verify`: checks that everything stored is whole."""

import argparse
import asyncio
import sys
from contextlib import aclosing

from sessiond_server.assets.store.objects import Objects
from sessiond_server.cli.database import database, load_settings
from sessiond_server.cli.errors import CommandError
from sessiond_server.db.pool import Database, DatabaseUnavailable, PoolExhausted
from sessiond_server.integrity.store.checks import IntegrityStore
from sessiond_server.integrity.verification import Seen, problems
from sessiond_server.settings import Settings


def run(arguments: list[str]) -> int:
    """Check that everything stored is whole, and print a line for each problem.

    Args:
        arguments: flags for the settings, and --no-assets.

    Returns:
        0 if everything is whole, otherwise 1.

    Raises:
        CommandError: if the database cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="sessiond verify",
        description="Check that everything stored is whole: that the seqs of each session have no "
        "gaps; its segments and its running turn; the bookmarks, tasks, message ids, parents and "
        "queues that refer to its messages; references to assets, and the content of each asset by "
        "its hash. "
        "Servers may go on serving. Exit code 0: whole; 1: there are problems.",
        epilog="Settings such as --database-url may follow; see `sessiond serve --help`.",
    )
    parser.add_argument(
        "--no-assets", action="store_true", help="do not read the content of the assets"
    )
    options, rest = parser.parse_known_args(arguments)
    settings = load_settings(rest, "verify")
    with database(settings) as url:
        return verified(settings, url, reads_assets=not options.no_assets)


def verified(settings: Settings, url: str, *, reads_assets: bool) -> int:
    """Print the problems and the counts of checked objects, and return the exit code.

    Raises:
        CommandError: if the database cannot be read.
    """
    try:
        return asyncio.run(_verify(settings, url, reads_assets=reads_assets))
    except (DatabaseUnavailable, PoolExhausted) as e:
        raise CommandError(str(e)) from None


async def _verify(settings: Settings, url: str, *, reads_assets: bool) -> int:
    open_database = Database(url, size=2, timeout_s=30.0)
    await open_database.open()
    seen, count = Seen(), 0
    try:
        store, objects = IntegrityStore(open_database), Objects(settings.asset_location())
        async with aclosing(problems(store, objects, seen, reads_assets=reads_assets)) as found:
            async for problem in found:
                count += 1
                sys.stdout.write(f"{problem}\n")
    finally:
        await open_database.close()
    assets = f"{seen.assets} assets ({seen.asset_bytes} bytes)" if reads_assets else "no assets"
    sys.stdout.write(
        f"{seen.sessions} sessions, {seen.messages} messages and {assets} were checked: "
        f"{f'{count} problems' if count else 'all is whole'}\n"
    )
    return 1 if count else 0
