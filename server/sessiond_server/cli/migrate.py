"""`sessiond migrate`."""

import sys

from sessiond_server.cli.database import database, load_settings, revision, upgrade


def run(arguments: list[str]) -> int:
    """Bring the schema to this version's, under a lock: any number may run at once."""
    settings = load_settings(arguments, "migrate")
    if settings.database_url:
        before = revision(settings.database_url)
        upgrade(settings.database_url)
        after = revision(settings.database_url)
        sys.stdout.write(
            f"{before or 'empty'} -> {after}\n" if before != after else f"{after}: nothing to do\n"
        )
        return 0
    # The embedded database is migrated whenever it is opened.
    with database(settings) as url:
        sys.stdout.write(f"{revision(url)}: the embedded database is up to date\n")
    return 0
