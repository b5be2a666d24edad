"""The checks of every request, and the headers of every response.

- Host: a page of another site whose name resolves to this address (DNS rebinding) is refused.
- Unsafe methods: only pages of this console may send them (no cross-site request forgery). The
  browser says so in Sec-Fetch-Site, and an older browser in Origin. Forms need no token.
- Headers: a Content-Security-Policy without inline scripts and styles, and no caching of pages.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessiond_console.options import Options

MAX_BODY_BYTES = 20 * 1024 * 1024
SAFE_METHODS = frozenset({"GET", "HEAD"})
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
# Requests for this page may name any host, because orchestrators probe it by the address of a
# container. The page reveals nothing.
HEALTH_PATH = "/healthz"
# A read-only console lets people sign in and out, and choose a theme.
_ALLOWED_IN_READ_ONLY = frozenset({"/login", "/logout", "/theme"})


class Guard:
    """ASGI middleware: checks requests before anything else sees them, and adds headers.

    Args:
        app: the application.
        options: the allowed hosts, and whether the console is read-only.
    """

    def __init__(self, app: ASGIApp, options: Options) -> None:
        self._app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Ids in paths may contain "/", so the router must see them encoded.
        raw = scope.get("raw_path") or scope["path"].encode()
        scope = {**scope, "path": raw.decode("ascii", "replace").partition("?")[0]}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal:
            status, text = refusal
            response = PlainTextResponse(f"{text}\n", status)
            await response(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Return the status and text with which a request is refused; None if it may pass."""
        host = headers.get("host", "")
        if path != HEALTH_PATH and name_of_host(host) not in self._options.allowed_hosts:
            return 400, (
                "This console does not serve this host name. Start it with "
                "--allow-host NAME to add a name."
            )
        if method in SAFE_METHODS:
            return None
        if not is_same_origin(headers, host):
            return 403, "Refused: the request does not come from a page of this console."
        if self._options.read_only and path not in _ALLOWED_IN_READ_ONLY:
            return 403, "Refused: this console is read-only (--read-only)."
        length = headers.get("content-length", "")
        if not length.isascii() or not length.isdigit():
            return 411, "Refused: the request has no Content-Length."
        if int(length) > MAX_BODY_BYTES:
            return 413, f"Refused: the request is larger than {MAX_BODY_BYTES} bytes."
        return None


def is_same_origin(headers: Headers, host: str) -> bool:
    """Return whether a page of this console sent the request, as far as its browser says."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == host.lower() != ""


def name_of_host(host: str) -> str:
    """Return the name in a Host header, without the port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() and port.isascii() else host).lower()
