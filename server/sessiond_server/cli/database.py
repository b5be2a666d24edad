"""The database that a command uses: the one in the settings, or the embedded one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

from sessiond_server import logs
from sessiond_server import settings as settings_module
from sessiond_server.cli.errors import CommandError
from sessiond_server.db import migrate
from sessiond_server.embedded import EmbeddedPostgres
from sessiond_server.settings import Settings, SettingsError

log = structlog.get_logger("sessiond")


def load_settings(arguments: Sequence[str], command: str, epilog: str | None = None) -> Settings:
    """Load the settings of a command, and configure logging accordingly.

    Args:
        arguments: flags for the settings.
        command: name of the command.
        epilog: end of the command's help text.

    Returns:
        The settings.

    Raises:
        CommandError: if a setting is invalid.
    """
    try:
        settings = settings_module.load(arguments, prog=f"sessiond {command}", epilog=epilog)
    except SettingsError as e:
        raise CommandError(str(e), exit_code=2) from None
    # Logs are written to stderr, since stdout is for the command's result, such as a key that a
    # script reads.
    logs.configure(settings.log_format, settings.log_level)
    return settings


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """Open a database with the newest schema for the duration of the block.

    Yields:
        The URL of the database.

    Raises:
        CommandError: if the database in the settings cannot be reached or has another schema.
        EmbeddedError: if the embedded database cannot run.
    """
    if settings.database_url:
        check_schema(settings.database_url)
        yield settings.database_url
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    if embedded.is_running:
        # A running server owns the embedded database, which also accepts other connections.
        yield embedded.database_url
        return
    with started(embedded) as url:
        yield url


@contextmanager
def started(embedded: EmbeddedPostgres) -> Iterator[str]:
    """Run the embedded database, with the newest schema, for the duration of the block.

    Yields:
        The URL of the database.

    Raises:
        CommandError: if the database cannot be migrated.
        EmbeddedError: if the database cannot run.
    """
    url = embedded.start()
    try:
        upgrade(url)
        yield url
    finally:
        embedded.stop()


def upgrade(url: str) -> None:
    """Migrate a database to the newest schema.

    Raises:
        CommandError: if the migration fails.
    """
    try:
        migrate.upgrade(url)
    except migrate.MigrationRefused as e:
        raise CommandError(str(e)) from None
    except (DBAPIError, psycopg.Error) as e:
        raise CommandError(f"cannot migrate the database: {_short(e)}") from None


def check_schema(url: str) -> None:
    """Check that a database has the newest schema, or a newer one that fits this version.

    Raises:
        CommandError: if the schema does not fit, or the database cannot be reached.
    """
    found, wanted = revision(url), migrate.newest()
    if found == wanted:
        return
    if found is None:
        raise CommandError("the database has no schema yet: run `sessiond migrate`")
    if migrate.is_known(found):
        raise CommandError(
            f"the database is at revision {found}, but this version needs {wanted}: "
            "run `sessiond migrate`"
        )
    try:
        migrate.check_support(found, migrate.oldest_server(url))
    except migrate.MigrationRefused as e:
        raise CommandError(str(e)) from None
    except (DBAPIError, psycopg.Error) as e:
        raise CommandError(f"cannot reach the database: {_short(e)}") from None
    log.warning("schema_is_newer", found=found, known=wanted)


def revision(url: str) -> str | None:
    """Return the revision of a database's schema; None without a schema.

    Raises:
        CommandError: if the database cannot be reached.
    """
    try:
        return migrate.current(url)
    except (DBAPIError, psycopg.Error) as e:
        raise CommandError(f"cannot reach the database: {_short(e)}") from None


def _short(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())
