"""A manual clock, projects with limits, and calls with their keys."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1.limits_pb2 import ProjectLimits, SetProjectLimitsRequest
from sessiond_server.quotas.service import Quotas
from sessiond_server.server import Running

from ..support.wire import Wire

SetLimits = Callable[..., Awaitable[ProjectLimits]]


class Clock:
    """A clock that only tests advance."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the rates of servers in this process."""
    made = Clock()
    assert Quotas.__init__.__kwdefaults__
    monkeypatch.setitem(Quotas.__init__.__kwdefaults__, "clock", made)
    return made


class _WithKey(
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
):
    """Adds a key to each call."""

    def __init__(self, key: str) -> None:
        self._header = ("authorization", f"Bearer {key}")

    async def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._header)
        changed = grpc.aio.ClientCallDetails(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
        )
        return await continuation(changed, request)

    intercept_unary_unary = _intercept
    intercept_unary_stream = _intercept
    intercept_stream_unary = _intercept


def with_key(port: int, key: str) -> grpc.aio.Channel:
    """Return a channel whose calls have a key."""
    kinds = (
        grpc.aio.UnaryUnaryClientInterceptor,
        grpc.aio.UnaryStreamClientInterceptor,
        grpc.aio.StreamUnaryClientInterceptor,
    )
    # A channel uses an interceptor of several kinds only for the first kind.
    one_each = [type("One", (kind,), dict(vars(_WithKey))) for kind in kinds]
    return grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", interceptors=[made(key) for made in one_each]
    )


@pytest.fixture
async def key(wire: Wire) -> str:
    """A key of the project "p"."""
    await wire.admin.CreateProject(admin.CreateProjectRequest(project=admin.Project(name="p")))
    return (await wire.admin.CreateApiKey(admin.CreateApiKeyRequest(project="p"))).secret


@pytest.fixture
async def tenant(server: Running, key: str) -> AsyncIterator[Wire]:
    """Raw calls of the project "p"."""
    async with with_key(server.port, key) as channel:
        yield Wire(channel)


@pytest.fixture
def set_limits(wire: Wire) -> SetLimits:
    """Replace the limits of the project "p"."""

    async def put(**limits: int) -> ProjectLimits:
        request = SetProjectLimitsRequest(project="p", limits=ProjectLimits(**limits))
        return await wire.admin.SetProjectLimits(request)

    return put
