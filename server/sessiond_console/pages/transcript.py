"""The transcript: a session's messages, page by page, beginning with the newest page."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond_console.history import find_messages, read_span, span_of
from sessiond_console.markers import markers_of
from sessiond_console.rendering.messages import Shown, fold
from sessiond_console.site import Page, Site, text
from sessiond_console.snippets import of_session

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
        markers = await markers_of(api, session_id)
        values = {
            "info": info,
            "page": found,
            "markers": markers,
            "roles": roles,
            "all_roles": ROLES,
            "wanted": wanted,
            "tab": "transcript",
            "session_id": session_id,
            "snippets": of_session(api.target, session_id),
        }
        # Rendering Markdown takes milliseconds for each message and would delay other pages.
        return await run_in_threadpool(_render, site, request, found.shown, values)

    return show


def _render(site: Site, request: Request, shown: list[Shown], values: dict[str, Any]) -> Response:
    fold(shown)
    values["markers"].place_turns(one.message for one in shown)
    largest = max((one.message.token_count for one in shown), default=0)
    is_part = "hx-request" in request.headers
    template = "transcript_part.html" if is_part else "transcript.html"
    return site.page(request, template, shown=shown, largest=max(largest, 1), **values)


ROUTES = (("GET", "/sessions/{session_id:id}", _show),)
