"""The database that a command works on: the one of the settings, or the embedded one, running or not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError

from sessiond_server import logs
from sessiond_server import settings as settings_module
from sessiond_server.cli.errors import CommandError
from sessiond_server.db import migrate
from sessiond_server.embedded import EmbeddedError, EmbeddedPostgres
from sessiond_server.settings import Settings, SettingsError


def load_settings(arguments: Sequence[str], command: str, epilog: str | None = None) -> Settings:
    """The settings of a command, with logging set up as they say; epilog is the end of its --help. Raises: CommandError."""
    try:
        settings = settings_module.load(arguments, prog=f"sessiond {command}", epilog=epilog)
    except SettingsError as e:
        raise CommandError(str(e), exit_code=2) from None
    # To stderr: stdout is for what the command answers, such as a key that a script catches.
    logs.configure(settings.log_format, settings.log_level)
    return settings


@contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of a database that answers and has the newest schema. Raises: CommandError."""
    if settings.database_url:
        check_schema(settings.database_url)
        yield settings.database_url
        return
    try:
        embedded = EmbeddedPostgres(settings.data_dir)
        if embedded.is_running:
            # A server has it; it takes connections of ours too.
            yield embedded.database_url
            return
        url = embedded.start()
    except EmbeddedError as e:
        raise CommandError(str(e)) from None
    try:
        upgrade(url)
        yield url
    finally:
        embedded.stop()


def upgrade(url: str) -> None:
    """Migrate. Raises: CommandError."""
    try:
        migrate.upgrade(url)
    except (DBAPIError, psycopg.Error) as e:
        raise CommandError(f"cannot migrate the database: {_short(e)}") from None


def check_schema(url: str) -> None:
    """Raises: CommandError where the database does not answer, or is not at the newest revision."""
    found, wanted = revision(url), migrate.newest()
    if found != wanted:
        state = (
            "has no schema yet"
            if found is None
            else f"is at revision {found}, and this version needs {wanted}"
        )
        raise CommandError(f"the database {state}: run `sessiond migrate`")


def revision(url: str) -> str | None:
    """The revision that the database is at. Raises: CommandError."""
    try:
        return migrate.current(url)
    except (DBAPIError, psycopg.Error) as e:
        raise CommandError(f"cannot reach the database: {_short(e)}") from None


def _short(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())
