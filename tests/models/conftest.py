"""What the tests of models share: a provider that does what it is told, another that nobody here wrote, and questions."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
def aimock_of_npm(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of aimock, where `make` could install it."""
    if not AIMOCK.is_file():
        pytest.skip("aimock is not here: `make aimock` installs it with npm")
    if not shutil.which("node"):
        pytest.skip("aimock needs node, which is not here")
    with pytest.MonkeyPatch.context() as patch:
        # Without it the plugin would download its own.
        patch.setenv("AIMOCK_CLI_PATH", str(AIMOCK))
        yield request.getfixturevalue("aimock_session")


@pytest.fixture
def aimock(aimock_of_npm: Any) -> Any:
    """The same, with nothing of the tests before."""
    aimock_of_npm.reset()
    return aimock_of_npm
