"""Who is signed in. API keys are kept in this process's memory, and nowhere else."""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond_console.options import Options

LIFETIME_S = 12 * 3600
# If there are more logins than this, the oldest one ends.
MAX_LOGINS = 1000


@dataclass(frozen=True, slots=True)
class Login:
    """One signed-in browser."""

    client: AsyncClient
    """The client with the browser's API key."""
    label: str
    """The public part of the key, its id."""
    ends_at: float
    """When the login ends, by the monotonic clock. Unit: seconds."""


class Logins:
    """The logins by the random ids that browsers hold in a cookie.

    Args:
        options: the server to call, and whether cookies require HTTPS.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._logins: OrderedDict[str, Login] = OrderedDict()
        # With this prefix, browsers accept the cookie over HTTPS only, and for this host only.
        self.cookie = "__Host-sessiond" if options.is_secure else "sessiond"
        self.anonymous = self.client("")

    def client(self, api_key: str) -> AsyncClient:
        """Return a new client with an API key.

        Raises:
            InvalidField: if the key cannot be a key.
        """
        options = self._options
        tls = options.tls if isinstance(options.tls, bool) else str(options.tls)
        return AsyncClient(options.target, api_key=api_key, tls=tls, timeout=options.timeout_s)

    def find(self, request: Request) -> Login | None:
        """Return the login of a request; None if its browser is not signed in."""
        token = request.cookies.get(self.cookie, "")
        login = self._logins.get(token)
        if login and login.ends_at <= self._clock():
            self._logins.pop(token, None)
            return None
        return login

    async def begin(self, request: Request, response: Response, client: AsyncClient) -> None:
        """Sign a browser in, with a new id, and end the login that it had."""
        await self.end(request, response)
        await self._end_expired()
        token = secrets.token_urlsafe(32)
        key = dict(client.metadata).get("authorization", "").removeprefix("Bearer ")
        self._logins[token] = Login(client, label_of(key), self._clock() + LIFETIME_S)
        while len(self._logins) > MAX_LOGINS:
            _, oldest = self._logins.popitem(last=False)
            await oldest.client.stop()
        response.set_cookie(
            self.cookie,
            token,
            max_age=LIFETIME_S,
            path="/",
            secure=self._options.is_secure,
            httponly=True,
            samesite="strict",
        )

    async def end(self, request: Request, response: Response) -> None:
        """Sign a browser out."""
        login = self._logins.pop(request.cookies.get(self.cookie, ""), None)
        if login:
            await login.client.stop()
        response.delete_cookie(
            self.cookie,
            path="/",
            secure=self._options.is_secure,
            httponly=True,
            samesite="strict",
        )

    async def _end_expired(self) -> None:
        for token, login in list(self._logins.items()):
            if login.ends_at <= self._clock():
                del self._logins[token]
                await login.client.stop()

    async def close(self) -> None:
        """End all logins and close all connections to the server."""
        for login in self._logins.values():
            await login.client.stop()
        self._logins.clear()
        await self.anonymous.stop()


def label_of(key: str) -> str:
    """Return the public part of a key: the id in "sk-sessiond-ID-SECRET"."""
    found = re.match(r"sk-sessiond-([0-9a-f]+)-", key)
    return found[1] if found else "API key"
