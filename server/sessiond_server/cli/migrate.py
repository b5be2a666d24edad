"""`sessiond migrate`."""

import sys

from sessiond_server.cli.database import database, load_settings, revision, upgrade


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
        sys.stdout.write(
            f"{before or 'empty'} -> {after}\n" if before != after else f"{after}: nothing to do\n"
        )
        return 0
    # Opening the embedded database also migrates it.
    with database(settings) as url:
        sys.stdout.write(f"{revision(url)}: the embedded database is up to date\n")
    return 0
