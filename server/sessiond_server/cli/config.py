"""`sessiond config check`: what the settings are, where they come from, and what is wrong."""

import argparse
import difflib
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import psycopg

from sessiond_server.cli.database import load_settings, revision
from sessiond_server.cli.errors import CommandError
from sessiond_server.cli.serve import EXTRA_CONNECTIONS
from sessiond_server.db import migrate
from sessiond_server.db.cluster_info import cluster_info
from sessiond_server.providers.base import ModelFault
from sessiond_server.providers.routing import Models
from sessiond_server.settings import Settings
from sessiond_server.settings.model import ENV_PREFIX
from sessiond_server.telemetry.certificates import expires_at

# Variables that are no settings of the server.
OTHER_VARIABLES = frozenset(
    {"CONFIG", "TARGET", "API_KEY", "TLS_CA", "TEST_DATABASE_URL", "MODEL", "SERVER_NAME"}
)
CERTIFICATE_DAYS = 14


class Finding(NamedTuple):
    """A line of the report about the settings."""

    level: Literal["ok", "warning", "error"]
    text: str


def run(arguments: list[str]) -> int:
    """Check the settings.

    Args:
        arguments: "check", --no-database, and flags for the settings.

    Returns:
        0 if a server would start with the settings, otherwise 1.

    Raises:
        CommandError: if a setting is invalid.
    """
    parser = argparse.ArgumentParser(
        prog="sessiond config",
        description="Print the settings that differ from their defaults and the source of each, "
        "and check whether a server would start with them. No secret is printed. Exit code 0: no "
        "errors; 1: at least one error; 2: a setting is invalid.",
        epilog="Flags of `sessiond serve` may follow; see `sessiond serve --help`.",
    )
    parser.add_argument("command", metavar="check", help="the subcommand: `check`")
    parser.add_argument("--no-database", action="store_true", help="do not connect to the database")
    if arguments and arguments[0].startswith("--") and arguments[0] != "--help":
        raise CommandError("begin with `config check`, then the flags", exit_code=2)
    options, rest = parser.parse_known_args(arguments)
    if options.command != "check":
        raise CommandError(f"there is no command {options.command!r}, only `check`", exit_code=2)
    settings = load_settings(rest, "config check")
    _print_settings(settings, rest)
    worst = 0
    for finding in _findings(settings, reaches=not options.no_database):
        sys.stdout.write(f"{finding.level}: {finding.text}\n")
        worst |= finding.level == "error"
    return worst


def _print_settings(settings: Settings, flags: Sequence[str]) -> None:
    shown = settings.redacted()
    for name in sorted(settings.model_fields_set):
        sys.stdout.write(f"{name} = {shown[name]}  ({_source(name, flags)})\n")


def _source(name: str, flags: Sequence[str]) -> str:
    flag, variable = f"--{name.replace('_', '-')}", f"{ENV_PREFIX}{name.upper()}"
    given = {part.partition("=")[0] for part in flags}
    if flag in given or flag.replace("--", "--no-", 1) in given:
        return flag
    if os.environ.get(variable):
        return variable
    return "the configuration file"


def _findings(settings: Settings, *, reaches: bool) -> Iterator[Finding]:
    yield from _variables()
    yield from _file_keys()
    yield from _network(settings)
    yield from _models(settings)
    yield from _files(settings)
    if reaches:
        yield from _database(settings)


def _variables() -> Iterator[Finding]:
    known = {name.upper() for name in Settings.model_fields} | OTHER_VARIABLES
    for name in sorted(os.environ):
        short = name.removeprefix(ENV_PREFIX)
        if name.startswith(ENV_PREFIX) and short not in known:
            near = difflib.get_close_matches(short, known, 1)
            hint = f"; did you mean {ENV_PREFIX}{near[0]}?" if near else ""
            yield Finding("error", f"no setting has the variable {name}{hint}")


def _file_keys() -> Iterator[Finding]:
    """Yield a warning for each setting of the SESSIOND_CONFIG file that a variable overrides."""
    path = os.environ.get(f"{ENV_PREFIX}CONFIG")
    if not path or not Path(path).is_file():
        return
    for name in tomllib.loads(Path(path).read_text("utf-8")):
        if os.environ.get(f"{ENV_PREFIX}{name.upper()}"):
            yield Finding(
                "warning", f"{name} of {path} is overridden by {ENV_PREFIX}{name.upper()}"
            )


def _network(settings: Settings) -> Iterator[Finding]:
    if settings.insecure:
        missing = [
            text
            for is_missing, text in (
                (not settings.tls_cert, "without TLS"),
                (not settings.require_keys, "without requiring API keys"),
            )
            if is_missing
        ]
        if missing:
            yield Finding(
                "warning",
                f"--insecure: the server listens on {settings.listen} {' and '.join(missing)}",
            )
    if settings.tls_cert:
        try:
            days = (expires_at(settings.tls_cert.read_bytes()) - time.time()) / 86_400
        except (OSError, ValueError) as e:
            yield Finding("error", f"--tls-cert {settings.tls_cert}: {e}")
            return
        if days < 0:
            yield Finding("error", f"--tls-cert {settings.tls_cert} has expired")
        elif days < CERTIFICATE_DAYS:
            yield Finding("warning", f"--tls-cert {settings.tls_cert} expires in {days:.0f} days")
    if settings.workers > (os.cpu_count() or 1):
        yield Finding(
            "warning",
            f"--workers {settings.workers}: this machine has {os.cpu_count()} cores, and a worker "
            "uses one",
        )
    if settings.metrics_listen is None:
        yield Finding("warning", "--metrics-listen is not set: nothing watches this server")


def _models(settings: Settings) -> Iterator[Finding]:
    models = Models(settings.providers, echo_models=settings.echo_models)
    for name in (*(f"{provider}/any" for provider in settings.providers), settings.default_model):
        try:
            models.route(name)
        except ModelFault as e:
            yield Finding("error", f"model {name.removesuffix('/any')}: {e.message}")


def _files(settings: Settings) -> Iterator[Finding]:
    places = {"TMPDIR": Path(tempfile.gettempdir())}
    location = settings.asset_location().removeprefix("file://")
    if location.startswith("/"):
        places["--asset-store"] = Path(location)
    if not settings.database_url:
        places["--data-dir"] = settings.data_dir
    for name, path in places.items():
        there = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
        if not os.access(there, os.W_OK):
            yield Finding("error", f"{name}: {there} cannot be written by this user")
        free = shutil.disk_usage(there).free
        if name == "TMPDIR" and 0 < free < settings.max_import_bytes:
            yield Finding(
                "warning",
                f"{name}: {path} has {free // 2**20} MiB free, less than one import may need "
                f"(--max-import-bytes {settings.max_import_bytes})",
            )


def _database(settings: Settings) -> Iterator[Finding]:
    if not settings.database_url:
        yield Finding("ok", f"the embedded PostgreSQL keeps its data in {settings.data_dir}")
        return
    try:
        found, wanted = revision(settings.database_url), migrate.newest()
    except CommandError as e:
        yield Finding("error", str(e))
        return
    if found == wanted:
        yield Finding("ok", f"the database answers, its schema is at revision {found}")
    else:
        yield Finding(
            "error",
            f"the database's schema is at revision {found or 'none'}, not {wanted}: run "
            "`sessiond migrate`",
        )
    yield from _connections(settings, settings.database_url)


def _connections(settings: Settings, url: str) -> Iterator[Finding]:
    wanted = settings.workers * (settings.pool_size + EXTRA_CONNECTIONS)
    try:
        found = cluster_info(url)
    except psycopg.Error as e:
        yield Finding("error", f"cannot reach the database: {' '.join(str(e).split())}")
        return
    most = found.max_connections
    if found.is_standby:
        yield Finding("error", "the database is a standby, which cannot be written to")
    if wanted > most:
        yield Finding(
            "error",
            f"{settings.workers} workers open up to {wanted} connections (--pool-size), but "
            f"PostgreSQL's max_connections is {most}",
        )
    elif wanted > most * 0.8:
        yield Finding(
            "warning",
            f"this server opens up to {wanted} of PostgreSQL's {most} connections",
        )
