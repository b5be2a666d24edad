"""Fixtures of all tests: PostgreSQL, a database for each test, servers in this process or another.

SESSIOND_TEST_DATABASE_URL names a PostgreSQL whose user may create databases. Without it, the tests
start the embedded one.
"""

import gc
import gzip
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
import structlog
from aimock_pytest import AIMockServer, NodeManager
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sessiond_server.copies.flattening import Flattener
from sessiond_server.copies.store.flattening import FlatteningStore
from sessiond_server.db import migrate
from sessiond_server.embedded import EmbeddedPostgres
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.server import Running, serving
from sessiond_server.settings import Settings

from .support.conversations import made_up_conversations
from .support.databases import Databases, url_of
from .support.embedded import end_postgres
from .support.guardian import Guardian
from .support.processes import ServerProcess
from .support.wire import Wire

# Servers in this process log as `sessiond serve` does. structlog's default formats every local
# variable of a traceback: for a history of 16 MiB that takes many minutes.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

CONVERSATIONS = Path(__file__).parents[2] / "shared" / "data" / "airline_conversations.jsonl.gz"

# The shared cluster is thrown away; crash tests have durable clusters of their own.
NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "300",
}

AIMOCK = (
    Path(__file__).parent.parent
    / ".aimock"
    / "node_modules"
    / "@copilotkit"
    / "aimock"
    / "dist"
    / "cli.js"
)

# Fixtures and folders of tests that are no unit tests: they need a database or another process.
HEAVY_FIXTURES = {"postgres", "start_server", "data_dir", "aimock_of_npm"}
HEAVY_FOLDERS = {"acceptance", "docs", "languages", "runtime", "support"}
# These tests prove something about SQL, so they also run on other versions of PostgreSQL.
SQL_FOLDERS = {
    "assets",
    "bookmarks",
    "copies",
    "db",
    "imports",
    "messages",
    "projects",
    "queues",
    "retention",
    "rpc",
    "sessions",
    "tasks",
    "turns",
    "watch",
}


def pytest_configure() -> None:
    """Enable SIGINT and the caches of bytecode.

    A shell disables SIGINT for a pytest in the background. Without the caches, each of the hundreds
    of processes that the tests start compiles all modules, which takes half of the CPU time of a
    server's start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For `make test-sql`, skip the folders that have no tests of SQL."""
    is_folder = collection_path.parent == Path(__file__).parent and collection_path.is_dir()
    if is_folder and config.option.markexpr.startswith("sql and "):
        return collection_path.name not in SQL_FOLDERS or None
    return None


def pytest_collection_finish() -> None:
    """Exempt the million objects of the collected tests from garbage collection."""
    # Without this import, Hypothesis is imported at the end of a run, and trio then registers its
    # random generator there. The registration fails if it finds no reference to the generator, and
    # it finds none in exempt objects.
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests as `unit`, `sql` or neither, by what they use.

    Tests of plans are marked as `every_postgres` where they are defined.
    """
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        fixtures = HEAVY_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if not fixtures and folder not in HEAVY_FOLDERS:
            item.add_marker("unit")
        elif folder in SQL_FOLDERS:
            item.add_marker("sql")
            if folder == "db":
                item.add_marker("every_postgres")


@pytest.fixture(scope="session", autouse=True)
def guardian() -> Iterator[Guardian]:
    """Ends processes that the tests leave running. Such a process fails the run."""
    made = Guardian()
    yield made
    assert not (left := made.finish()), f"the tests left processes running:\n{left}"


@pytest.fixture(scope="session")
def postgres(guardian: Guardian) -> Iterator[str]:
    """A connection string of a PostgreSQL in which databases may be created."""
    if given := os.environ.get("SESSIOND_TEST_DATABASE_URL"):
        yield given
        return
    with _scratch(guardian, _memory()) as directory:
        embedded = EmbeddedPostgres(directory, tuning=NOT_DURABLE)
        embedded.start()
        try:
            yield make_conninfo(embedded.database_url, dbname="postgres")
        finally:
            embedded.stop()


def _memory() -> str | None:
    """Return a file system in memory with room for a test cluster; None if there is none."""
    memory = "/dev/shm"  # noqa: S108
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 1024**3
    return memory if has_room else None


@contextmanager
def _scratch(guardian: Guardian, parent: str | None = None) -> Iterator[Path]:
    """Make a directory that other users may enter, unlike the directories that pytest makes."""
    with tempfile.TemporaryDirectory(
        prefix="sessiond-test-", dir=parent, ignore_cleanup_errors=True
    ) as directory:
        guardian.remove_at_end(Path(directory))
        yield Path(directory)


@pytest.fixture(scope="session")
def session_data_dir(guardian: Guardian) -> Iterator[Path]:
    """A data directory for an embedded PostgreSQL that many tests use."""
    with _scratch(guardian) as directory:
        yield directory


@pytest.fixture
def data_dir(guardian: Guardian) -> Iterator[Path]:
    """A data directory for an embedded PostgreSQL. Stops the PostgreSQL at the end of the test."""
    with _scratch(guardian) as directory:
        yield directory
        end_postgres(directory)


@pytest.fixture(scope="session")
def template(postgres: str) -> Iterator[str]:
    """The name of a migrated database. A copy of it takes a tenth of a migration's time."""
    name = f"sessiond_template_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        migrate.upgrade(url_of(postgres, name))
        yield name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def databases(postgres: str) -> Iterator[Databases]:
    with psycopg.connect(postgres, autocommit=True) as connection:
        made = Databases(connection)
        yield made
        made.drop_left()


@pytest.fixture
def empty_database_url(postgres: str, databases: Databases) -> Iterator[str]:
    """The URL of a new database without a schema."""
    name = databases.create()
    yield url_of(postgres, name)
    databases.leave(name)


@pytest.fixture
def database_url(postgres: str, databases: Databases, template: str) -> Iterator[str]:
    """The URL of a new database with the schema."""
    name = databases.create(template)
    yield url_of(postgres, name)
    databases.leave(name)


@pytest.fixture(scope="session", autouse=True)
def base_settings() -> Settings:
    """The settings that the fixture `settings` copies.

    Making them once saves time, because all environment variables are read. They are made before
    any test can change a variable.
    """
    return Settings(listen="127.0.0.1:0", purge_interval_s=3600, pool_size=8, tokenizer="estimate")


@pytest.fixture
def settings(base_settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of servers in this process, whose purger runs only when a test runs it.

    An indirect parameter changes fields; see support/locks.py.
    """
    changed = {"asset_store": str(tmp_path / "assets")} | getattr(request, "param", {})
    return base_settings.model_copy(update=changed)


@pytest.fixture
async def server(settings: Settings, database_url: str) -> AsyncIterator[Running]:
    """A server in this process."""
    async with serving(settings, database_url) as running:
        yield running


@asynccontextmanager
async def _channel_to(server: Running) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as opened:
        yield opened


@pytest.fixture
async def channel(server: Running) -> AsyncIterator[grpc.aio.Channel]:
    async with _channel_to(server) as opened:
        yield opened


@pytest.fixture
def wire(channel: grpc.aio.Channel) -> Wire:
    """The raw protocol, without the client."""
    return Wire(channel)


@pytest.fixture(scope="module")
def shared_settings(base_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the module's shared server. Modules may define their own."""
    assets = tmp_path_factory.mktemp("shared") / "assets"
    return base_settings.model_copy(update={"asset_store": str(assets)})


@pytest.fixture(scope="module")
async def shared_channel(
    shared_settings: Settings, postgres: str, databases: Databases, template: str
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server that a module's tests share.

    It is for tests of refused calls, whose results do not depend on stored sessions.
    """
    name = databases.create(template)
    async with (
        serving(shared_settings, url_of(postgres, name)) as server,
        _channel_to(server) as opened,
    ):
        yield opened
    databases.leave(name)


@pytest.fixture(scope="module")
def shared(shared_channel: grpc.aio.Channel) -> Wire:
    """The raw protocol of the module's shared server."""
    return Wire(shared_channel)


def purger_of(server: Running) -> Purger:
    """Return a purger like the server's own. The test runs its rounds."""
    database = server.database
    flattener = Flattener(FlatteningStore(database))
    return Purger(
        PurgeStore(database),
        flattener,
        server.watching,
        interval_s=3600,
        request_retention_s=86_400,
    )


@pytest.fixture
def purger(server: Running) -> Purger:
    return purger_of(server)


@pytest.fixture
def query(database_url: str) -> Callable[..., list[tuple[object, ...]]]:
    """A function that runs a statement, with parameters, on the test's database; returns rows."""

    def ask(statement: str, parameters: object = None) -> list[tuple[object, ...]]:
        with psycopg.connect(database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    return ask


@pytest.fixture
def start_server(tmp_path: Path, data_dir: Path) -> Iterator[Callable[..., ServerProcess]]:
    """A function that starts `sessiond serve` in another process.

    Its arguments are flags, and its keywords are environment variables. The servers end before
    data_dir is removed, because without it they would not find their PostgreSQL.
    """
    started: list[ServerProcess] = []

    def start(*flags: str, **environment: str) -> ServerProcess:
        process = ServerProcess(flags, environment, tmp_path / f"server-{len(started)}.log")
        started.append(process)
        process.wait_until_ready()
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope="session", params=["made_up", "real"])
def conversations(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Conversations of agents that call tools. The real ones are not part of the repository."""
    if request.param == "made_up":
        return made_up_conversations()
    if not CONVERSATIONS.exists():
        pytest.skip(f"the real conversations are not here ({CONVERSATIONS.name} in shared/data)")
    with gzip.open(CONVERSATIONS, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def aimock_of_npm() -> Iterator[AIMockServer]:
    """A server of aimock, if `make` could install it."""
    if not AIMOCK.is_file():
        pytest.skip("aimock is not here: `make aimock` installs it with npm")
    if not shutil.which("node"):
        pytest.skip("aimock needs node, which is not here")
    server = AIMockServer(NodeManager())
    with pytest.MonkeyPatch.context() as patch:
        # Without this variable, the package would download its own CLI.
        patch.setenv("AIMOCK_CLI_PATH", str(AIMOCK))
        server.start()
    # The package leaves this pipe open, which causes a warning, and warnings fail the tests.
    process = server._proc
    yield server
    server.stop()
    if process and process.stdout:
        process.stdout.close()


@pytest.fixture
def aimock(aimock_of_npm: AIMockServer) -> AIMockServer:
    """The server of aimock, reset to its initial state."""
    return aimock_of_npm.reset()
