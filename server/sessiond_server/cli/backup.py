"""`sessiond backup` and `sessiond restore`."""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from sessiond_server.assets.store.objects import Objects, ObjectStoreUnavailable
from sessiond_server.cli.database import check_schema, database, load_settings, upgrade
from sessiond_server.cli.errors import CommandError
from sessiond_server.cli.verify import verified
from sessiond_server.embedded import EmbeddedPostgres
from sessiond_server.integrity.backup import (
    BackupError,
    back_up,
    read_manifest,
    restore_assets,
    restore_database,
)
from sessiond_server.integrity.store.postgres_tools import ToolError
from sessiond_server.integrity.store.snapshot import is_empty
from sessiond_server.settings import Settings

_EPILOG = "Settings such as --database-url may follow; see `sessiond serve --help`."


def run(arguments: list[str]) -> int:
    """Make a backup.

    Args:
        arguments: the directory, --no-assets, and flags for the settings.

    Returns:
        The exit code.

    Raises:
        CommandError: if the backup cannot be made.
    """
    parser = argparse.ArgumentParser(
        prog="sessiond backup",
        description="Back up the database and the content of the assets into a new directory. "
        "Servers may go on serving; the backup holds the data as it was when the backup began.",
        epilog=_EPILOG,
    )
    parser.add_argument("directory", type=Path, help="directory to create; it must not exist")
    parser.add_argument(
        "--no-assets", action="store_true", help="leave out the content of the assets"
    )
    options, rest = _parsed(parser, arguments)
    settings = load_settings(rest, "backup")
    objects = None if options.no_assets else Objects(settings.asset_location())
    with database(settings) as url, _errors():
        made = asyncio.run(back_up(url, objects, options.directory))
    assets = "no assets" if made.assets is None else f"{made.assets} assets"
    sys.stdout.write(
        f"{options.directory}: the database ({made.dump_bytes} bytes) and {assets} "
        f"({made.asset_bytes} bytes)\n"
    )
    return 0


def restore(arguments: list[str]) -> int:
    """Restore a backup into an empty database, and verify it.

    Args:
        arguments: the directory, and flags for the settings.

    Returns:
        0 if everything that was restored is whole, otherwise 1.

    Raises:
        CommandError: if the backup cannot be restored.
    """
    parser = argparse.ArgumentParser(
        prog="sessiond restore",
        description="Restore a backup into an empty database and the store of assets, migrate it "
        "to this version, and verify it. Start servers afterwards.",
        epilog=_EPILOG,
    )
    parser.add_argument("directory", type=Path, help="directory of the backup")
    options, rest = _parsed(parser, arguments)
    settings = load_settings(rest, "restore")
    with _errors():
        manifest = read_manifest(options.directory)
        with _empty_database(settings) as url:
            # Assets come first, because nothing refers to them before the database is restored.
            objects = Objects(settings.asset_location())
            count = asyncio.run(restore_assets(objects, options.directory))
            asyncio.run(restore_database(url, options.directory))
            upgrade(url)
            check_schema(url)
            sys.stdout.write(f"restored the backup of {manifest.created_at}, with {count} assets\n")
            return verified(settings, url, reads_assets=manifest.assets is not None)


def _parsed(
    parser: argparse.ArgumentParser, arguments: list[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Parse the directory, and return the flags for the settings as well.

    Raises:
        CommandError: if the directory does not come first. This parser does not know the flags for
            the settings. It would take the value of such a flag for the directory if the flag came
            first.
    """
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help"):
        raise CommandError("name the directory first, then the flags", exit_code=2)
    return parser.parse_known_args(arguments)


@contextmanager
def _empty_database(settings: Settings) -> Iterator[str]:
    """Open a database without a schema for the duration of the block.

    Raises:
        CommandError: if the database has a schema.
    """
    if settings.database_url:
        _check_empty(settings.database_url)
        yield settings.database_url
        return
    embedded = EmbeddedPostgres(settings.data_dir)
    if embedded.is_running:
        raise CommandError(
            f"a server uses {settings.data_dir}: stop the server, or name another directory with "
            "--data-dir"
        )
    url = embedded.start()
    try:
        _check_empty(url)
        yield url
    finally:
        embedded.stop()


def _check_empty(url: str) -> None:
    if not is_empty(url):
        raise CommandError(
            "the database is not empty, and restore never overwrites: name a new database with "
            "--database-url, or a new directory with --data-dir"
        )


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (BackupError, ToolError, ObjectStoreUnavailable) as e:
        raise CommandError(str(e).partition("\n")[0]) from None
    except psycopg.Error as e:
        raise CommandError(f"cannot reach the database: {' '.join(str(e).split())}") from None
    except OSError as e:
        raise CommandError(f"cannot write the backup: {e}") from None
