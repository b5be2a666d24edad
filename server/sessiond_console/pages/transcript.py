"""The transcript: a session's messages, page by page, the newest first to be read."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond_console.history import find_messages, read_span, span_of
from sessiond_console.rendering.messages import Shown, fold
from sessiond_console.site import Page, Site, text

ROLES = ("user", "assistant", "system", "developer", "tool")


def _show(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        query = request.query_params
        info = await api.sessions.get(session_id)
        span = span_of(query, info.last_seq)
        roles = [role for role in query.getlist("role") if role in ROLES]
        wanted = text(query, "q").strip()
        if wanted:
            found = await find_messages(api, session_id, wanted, span, roles)
        else:
            found = await read_span(api, session_id, span, roles)
        bookmarks: dict[int, list[str]] = {}
        async for mark in api.bookmarks.list(session_id):
            bookmarks.setdefault(mark.seq, []).append(mark.name)
        values = {
            "info": info,
            "page": found,
            "bookmarks": bookmarks,
            "forks": await forks_of(api, session_id),
            "roles": roles,
            "all_roles": ROLES,
            "wanted": wanted,
            "tab": "transcript",
            "session_id": session_id,
        }
        # Markdown takes milliseconds a message, during which other pages would wait.
        return await run_in_threadpool(_render, site, request, found.shown, values)

    return show


def _render(site: Site, request: Request, shown: list[Shown], values: dict[str, Any]) -> Response:
    fold(shown)
    largest = max((one.message.token_count for one in shown), default=0)
    is_part = "hx-request" in request.headers
    template = "transcript_part.html" if is_part else "transcript.html"
    return site.page(request, template, shown=shown, largest=max(largest, 1), **values)


async def forks_of(api: AsyncClient, session_id: str) -> dict[int, list[str]]:
    """Return the ids of a session's copies by the seq at which they were cut; at most 500."""
    found: dict[int, list[str]] = {}
    count = 0
    async for copy in api.sessions.copies(session_id, page_size=500):
        found.setdefault(copy.seq, []).append(copy.session_id)
        count += 1
        if count == 500:
            break
    return found


ROUTES = (("GET", "/sessions/{session_id:id}", _show),)
