"""What the tests of models share: a provider that does what it is told, another that nobody here wrote, and questions."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aimock_pytest import AIMockServer, NodeManager

from ..support.model_server import ModelServer

AIMOCK = Path(__file__).parent.parent.parent / ".aimock" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys and places of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(scope="session")
def aimock_of_npm() -> Iterator[AIMockServer]:
    """A server of aimock, where `make` could install it."""
    if not AIMOCK.is_file():
        pytest.skip("aimock is not here: `make aimock` installs it with npm")
    if not shutil.which("node"):
        pytest.skip("aimock needs node, which is not here")
    server = AIMockServer(NodeManager())
    with pytest.MonkeyPatch.context() as patch:
        # Without it the package would download its own.
        patch.setenv("AIMOCK_CLI_PATH", str(AIMOCK))
        server.start()
    # Its own fixtures leave this pipe open, which is a warning, and so a failure.
    process = server._proc
    yield server
    server.stop()
    if process and process.stdout:
        process.stdout.close()


@pytest.fixture
def aimock(aimock_of_npm: AIMockServer) -> AIMockServer:
    """The same, with nothing of the tests before."""
    return aimock_of_npm.reset()
