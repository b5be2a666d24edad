"""`sessiond migrate`."""

import sys

from sessiond_server.cli.database import database, load_settings, revision, upgrade
from sessiond_server.db.migrate import newest


def run(arguments: list[str]) -> int:
    """Migrate the schema of the database to this version, while holding a lock.

    Args:
        arguments: flags for the settings.

    Returns:
        The exit code.

    Raises:
        CommandError: if the migration fails.
    """
    settings = load_settings(arguments, "migrate")
    if settings.database_url:
        before = revision(settings.database_url)
        upgrade(settings.database_url)
        after = revision(settings.database_url)
        if before != after:
            result = f"{before or 'empty'} -> {after}"
        elif after == newest():
            result = f"{after}: nothing to do"
        else:
            result = f"{after}: nothing to do; this version runs on the newer schema"
        sys.stdout.write(f"{result}\n")
        return 0
    # Opening the embedded database also migrates it.
    with database(settings) as url:
        sys.stdout.write(f"{revision(url)}: the embedded database is up to date\n")
    return 0
