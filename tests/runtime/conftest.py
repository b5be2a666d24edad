"""A server in another process. The tests of a module share it; each has its own project."""

import uuid
from collections.abc import Iterator

import pytest

from sessiond import Client

from ..support.databases import Databases, url_of
from ..support.processes import ServerProcess


@pytest.fixture(scope="module")
def shared_database_url(postgres: str, databases: Databases, template: str) -> Iterator[str]:
    """The URL of the shared server's database."""
    name = databases.create(template)
    yield url_of(postgres, name)
    databases.leave(name)


@pytest.fixture(scope="module")
def shared_process(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("shared") / "server.log"
    server = ServerProcess((), {"SESSIOND_DATABASE_URL": shared_database_url}, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


@pytest.fixture
def own_project(shared_process: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    """The shared server. SESSIOND_TARGET names it, SESSIOND_API_KEY is for the test's project."""
    project = f"p{uuid.uuid4().hex}"
    with Client(shared_process.target, api_key="") as client:
        client.admin.create_project(project)
        key = client.admin.create_api_key(project)
    monkeypatch.setenv("SESSIOND_TARGET", shared_process.target)
    monkeypatch.setenv("SESSIOND_API_KEY", key.secret)
    return shared_process
