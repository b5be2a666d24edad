"""A console in this process, in front of a real server, and a browser without scripts."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx2
import pytest

from sessiond import AsyncClient
from sessiond_console.app import create_app
from sessiond_console.options import Options
from sessiond_server.server import Running
from sessiond_server.settings import Settings

ORIGIN = "http://localhost:8321"


class Browser:
    """Loads pages and sends forms as a browser does; it follows redirects after forms."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(path, headers=headers)

    async def page(self, path: str) -> str:
        """Return the HTML of a page that must load."""
        response = await self.get(path)
        assert response.status_code == 200, (path, response.status_code, response.text[:2000])
        return response.text

    async def post(
        self, path: str, form: Mapping[str, Any], *, follow: bool = True
    ) -> httpx2.Response:
        """Send a form of a page of the console."""
        response = await self.http.post(
            path, data=dict(form), headers={"Sec-Fetch-Site": "same-origin", "Origin": ORIGIN}
        )
        if follow and response.status_code == 303:
            return await self.get(response.headers["location"])
        return response


async def open_console(target: str, **options: Any) -> AsyncIterator[Browser]:
    app = create_app(Options(target=target, timeout_s=10, **options))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url=ORIGIN) as http,
    ):
        yield Browser(http)


@pytest.fixture
async def browser(server: Running) -> AsyncIterator[Browser]:
    """A browser of a console in front of the server."""
    async for browser in open_console(f"127.0.0.1:{server.port}"):
        yield browser


@pytest.fixture
async def reader(server: Running) -> AsyncIterator[Browser]:
    """A browser of a read-only console in front of the server."""
    async for browser in open_console(f"127.0.0.1:{server.port}", read_only=True):
        yield browser


@pytest.fixture
async def api(server: Running) -> AsyncIterator[AsyncClient]:
    """A client of the server, which fills it with sessions."""
    async with AsyncClient(f"127.0.0.1:{server.port}", api_key="") as client:
        yield client


@pytest.fixture
def keyed_settings(settings: Settings) -> Settings:
    """Settings of a server that asks for API keys, and notices revoked ones at once."""
    return settings.model_copy(update={"require_keys": True, "key_cache_s": 0.0})
