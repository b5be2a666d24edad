"""What all pages share: the templates, the signed-in client, and errors as pages."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sessiond import AsyncClient
from sessiond.errors import (
    AdminKeyRequired,
    ApiKeyInvalid,
    InvalidField,
    SessiondError,
    Unauthenticated,
)
from sessiond_console import display, paths
from sessiond_console.logins import Logins
from sessiond_console.options import Options
from sessiond_console.rendering.markdown import host_of, is_web, to_html
from sessiond_console.rendering.text import one_line, visible, visible_text

ROOT = Path(__file__).parent
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "sessiond-theme"
# Maximum number of fields of a form. A form with more fields can only be an attack.
MAX_FIELDS = 1000

NAV = (
    ("/sessions", "Sessions"),
    ("/queues", "Queues"),
    ("/projects", "Projects"),
    ("/server", "Server"),
)
# Pages of a session: key, name and the rest of the path.
TABS = (
    ("transcript", "Transcript", ()),
    ("turns", "Turns", ("turns",)),
    ("tree", "Forks", ("tree",)),
    ("tokens", "Tokens", ("tokens",)),
    ("context", "What the model is given", ("context",)),
    ("tasks", "Tasks", ("tasks",)),
    ("bookmarks", "Bookmarks", ("bookmarks",)),
    ("settings", "Settings", ("settings",)),
)

# HTTP statuses of gRPC codes, by the codes' names.
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "DEADLINE_EXCEEDED": 504,
    "UNAVAILABLE": 503,
    "UNIMPLEMENTED": 501,
}

Page: TypeAlias = Callable[[Request, AsyncClient], Awaitable[Response]]


class FormError(Exception):
    """A form or an address has a value that the console itself cannot use.

    Attributes:
        field: the name of the field.
        message: what is wrong, and what to do.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@cache
def _environment(is_read_only: bool) -> jinja2.Environment:
    """Return the environment of the templates. Sites share it, so templates are compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "exact": exact,
        "markdown": to_html,
        "one_line": one_line,
        "host": host_of,
        "is_web": is_web,
        **display.FILTERS,
    }
    environment.globals |= {
        "session_path": paths.session_path,
        "asset_path": paths.asset_path,
        "path_of": paths.path,
        "new_request_id": new_request_id,
        "nav": NAV,
        "tabs": TABS,
        "is_read_only": is_read_only,
    }
    return environment


class Site:
    """Renders pages, and runs their handlers with the client of the signed-in browser.

    Args:
        options: the console's options.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.logins = Logins(options)
        self.on_close: list[Callable[[], None]] = []
        self._templates = _environment(options.read_only)

    def html(self, template: str, **values: Any) -> str:
        """Return the HTML of a template."""
        return self._templates.get_template(template).render(**values)

    def page(
        self, request: Request, template: str, *, http_status: int = 200, **values: Any
    ) -> Response:
        """Return a page, with what every page needs."""
        theme = request.cookies.get(THEME_COOKIE, "auto")
        login = self.logins.find(request)
        text = self.html(
            template,
            request_path=request.scope["path"],
            query=request.scope["query_string"].decode("ascii", "replace"),
            theme=theme if theme in THEMES else "auto",
            themes=THEMES,
            login=login,
            note=display.NOTES.get(request.query_params.get("note", "")),
            **values,
        )
        return HTMLResponse(text, http_status)

    def endpoint(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """Return a Starlette endpoint that runs a page's handler and shows its errors."""

        async def run(request: Request) -> Response:
            login = self.logins.find(request)
            api = login.client if login else self.logins.anonymous
            try:
                return await page(request, api)
            except AdminKeyRequired as error:
                return self.error(request, error)
            except Unauthenticated as error:
                return await self._to_login(request, is_refused=isinstance(error, ApiKeyInvalid))
            except (SessiondError, FormError) as error:
                return self.error(request, error)

        return run

    def error(self, request: Request, error: SessiondError | FormError) -> Response:
        """Return the page of an error, with its reason and the server's explanation."""
        shown = (
            InvalidField(f"{error.field}: {error.message}")
            if isinstance(error, FormError)
            else error
        )
        status = _STATUSES.get(shown.code.name, 500)
        response = self.page(
            request, "error.html", http_status=status, error=shown, status_code=status
        )
        if shown.retry_after is not None:
            response.headers["retry-after"] = str(max(1, round(shown.retry_after)))
        return response

    def not_found(self, request: Request, what: str) -> Response:
        """Return the page of something that does not exist in the console itself."""
        return self.page(request, "missing.html", http_status=404, what=what, title="Not found")

    async def _to_login(self, request: Request, *, is_refused: bool) -> Response:
        target = request.scope["path"] if request.method == "GET" else "/sessions"
        if request.method == "GET" and request.scope["query_string"]:
            target += "?" + request.scope["query_string"].decode("ascii", "replace")
        query = {"next": target} | ({"refused": "1"} if is_refused else {})
        if "text/event-stream" in request.headers.get("accept", ""):
            # An event source cannot follow a redirect to a page. It would reconnect for ever.
            response = Response("event: denied\ndata: {}\n\n", media_type="text/event-stream")
        elif "hx-request" in request.headers:
            response = Response(status_code=200, headers={"hx-redirect": "/login"})
        else:
            response = RedirectResponse(f"/login?{urlencode(query)}", 303)
        await self.logins.end(request, response)
        return response


def see(path: str, note: str = "") -> Response:
    """Return a redirect to a page after a change, with a note about the change.

    Args:
        path: the page.
        note: a key of display.NOTES.
    """
    if note:
        head, hash_, fragment = path.partition("#")
        path = f"{head}{'&' if '?' in head else '?'}note={note}{hash_}{fragment}"
    return RedirectResponse(path, 303)


async def form_of(request: Request) -> FormData:
    """Return the form of a POST."""
    return await request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=16 * 1024 * 1024)


def text(values: Mapping[str, Any], name: str) -> str:
    """Return a field of a form or query; "" if it is missing."""
    value = values.get(name, "")
    return value if isinstance(value, str) else ""


def new_request_id() -> str:
    """Return an id for a form, so that a form that is sent twice makes its change once."""
    return secrets.token_hex(16)


def exact(value: str) -> Markup:
    """Return a text for a form field, escaped but otherwise unchanged."""
    return escape(value.encode("utf-8", "replace").decode())


def _finalized(value: Any) -> Any:
    """Mark deceptive characters in everything that a template prints, but not in HTML."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return "" if value is None else value
    return visible_text(value)
