"""A server with the model `echo`."""

import pytest

from sessiond_server.server import Running
from sessiond_server.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"echo_models": True, "default_idle_ttl_s": 86_400.0})


@pytest.fixture
def target(server: Running) -> str:
    return f"127.0.0.1:{server.port}"
