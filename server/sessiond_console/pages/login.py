"""Signing in and out, and the theme: the pages that need no API key."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessiond.errors import InvalidField, SessiondError, Unauthenticated
from sessiond_console.filters import Filter
from sessiond_console.listing import list_page
from sessiond_console.site import THEME_COOKIE, THEMES, Site, form_of, see, text

YEAR_S = 365 * 24 * 3600


def login_routes(site: Site) -> list[Route]:
    """Return the routes."""

    async def show(request: Request) -> Response:
        refused = "refused" in request.query_params
        message = "The server refuses this API key: it is wrong, or revoked." if refused else ""
        return _page(request, message, 200)

    def _page(request: Request, message: str, status: int) -> Response:
        target = safe_target(request.query_params.get("next", ""))
        return site.page(request, "login.html", http_status=status, message=message, target=target)

    async def sign_in(request: Request) -> Response:
        form = await form_of(request)
        key = text(form, "api_key").strip()
        if not key:
            return _page(request, "Paste an API key.", 400)
        try:
            client = site.logins.client(key)
        except InvalidField as error:
            return _page(request, f"This cannot be an API key: {error.message}", 400)
        try:
            await list_page(client, Filter({}), "", 1)
        except SessiondError as error:
            await client.stop()
            status = 401 if isinstance(error, Unauthenticated) else 503
            return _page(request, f"The server refuses it. {error}", status)
        response = see(safe_target(text(form, "next")))
        await site.logins.begin(request, response, client)
        return response

    async def sign_out(request: Request) -> Response:
        response = see("/login", "signed-out")
        await site.logins.end(request, response)
        return response

    async def choose_theme(request: Request) -> Response:
        form = await form_of(request)
        theme = text(form, "theme")
        response = see(safe_target(text(form, "next")))
        if theme in THEMES:
            response.set_cookie(THEME_COOKIE, theme, max_age=YEAR_S, path="/", samesite="strict")
        return response

    return [
        Route("/login", show, methods=["GET"]),
        Route("/login", sign_in, methods=["POST"]),
        Route("/logout", sign_out, methods=["POST"]),
        Route("/theme", choose_theme, methods=["POST"]),
    ]


def safe_target(target: str) -> str:
    """Return the path to redirect to after a form; never the address of another site."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\", "/login", "/logout"))
    is_plain = target.isascii() and target.isprintable() and "\\" not in target
    return target if is_path and is_plain else "/sessions"
