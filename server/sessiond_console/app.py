"""The ASGI application: its routes, its middleware, and the clean-up when it stops."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from sessiond_console.options import Options
from sessiond_console.pages import ROUTES
from sessiond_console.pages.login import login_routes
from sessiond_console.security import HEALTH_PATH, Guard
from sessiond_console.site import Site
from sessiond_console.statics import Statics


def create_app(options: Options) -> Starlette:
    """Return the console as an ASGI application.

    Args:
        options: how the console runs.

    Raises:
        InvalidField: if the target is malformed.
        OSError: if the file of certificate authorities cannot be read.
    """
    site = Site(options)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        for close in site.on_close:
            close()
        await site.logins.close()

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def home(request: Request) -> Response:
        return RedirectResponse("/sessions", 307)

    async def missing(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 405:
            return Response(status_code=405, headers=error.headers)
        return site.not_found(request, "There is no such page.")

    async def failed(request: Request, error: Exception) -> Response:
        # The error itself is in the log; a page must not show a stack trace.
        text = "The console failed to make this page. Its log says why."
        return site.page(request, "missing.html", http_status=500, what=text, title="An error")

    routes: list[BaseRoute] = [
        Route("/", home),
        Route(HEALTH_PATH, health),
        Mount("/static", Statics()),
        *login_routes(site),
    ]
    routes += [
        Route(path, site.endpoint(make(site)), methods=[method]) for method, path, make in ROUTES
    ]
    handlers: dict[Any, Any] = {404: missing, 405: missing, 500: failed}
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, options=options)],
        exception_handlers=handlers,
        lifespan=lifespan,
    )
