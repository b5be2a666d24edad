"""A server for the adapters' tests, in a process of its own, as in real use."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond import Client
from sessiond.adapters import _portal
from tests.support.databases import Databases, url_of
from tests.support.processes import ServerProcess


@pytest.fixture(scope="session")
def adapters_server(
    postgres: str,
    databases: Databases,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    name = databases.create(template)
    directory: Path = tmp_path_factory.mktemp("adapters")
    url = url_of(postgres, name)
    environment = {"SESSIOND_DATABASE_URL": url, "SESSIOND_TOKENIZER": "estimate"}
    process = ServerProcess((), environment, directory / "server.log")
    try:
        process.wait_until_ready()
        yield process
    finally:
        # The portal's threads would disturb the forks by which other fixtures end their processes.
        _portal.shut_down()
        process.end()
        databases.leave(name)


@pytest.fixture
def target(adapters_server: ServerProcess) -> str:
    """The server's address."""
    return adapters_server.target


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return uuid.uuid4().hex


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    """A client of the server, for checks without the adapter."""
    with Client(target) as made:
        yield made


@pytest.fixture
def environment(target: str) -> dict[str, str]:
    """The environment of a program that finds the server."""
    return {**os.environ, "SESSIOND_TARGET": target}
