"""The session list, and the way to one session."""

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond.errors import InvalidField, NotFound
from sessiond_console.filters import ORDERS, RANKS, STATUSES, filter_of
from sessiond_console.listing import MAX_PAGE_SIZE, PAGE_SIZE, list_page
from sessiond_console.paths import path, session_path
from sessiond_console.site import FormError, Page, Site, see, text
from sessiond_console.snippets import of_list

_SIZES = (50, 100, 200, 500)


def _list(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        chosen = filter_of(request.query_params)
        size = size_of(text(request.query_params, "size"))
        found = await list_page(api, chosen, text(request.query_params, "token"), size)
        shown_size = str(size) if size != PAGE_SIZE else None
        next_page = path("sessions", **chosen.query(size=shown_size, token=found.next_token))
        is_part = "hx-request" in request.headers
        return site.page(
            request,
            "sessions_table.html" if is_part else "sessions.html",
            chosen=chosen,
            found=found,
            orders={**ORDERS, **RANKS},
            statuses=STATUSES,
            sizes=_SIZES,
            size=size,
            next_page=next_page if found.next_token else "",
            first_page=path("sessions", **chosen.query(size=shown_size)),
            is_first="token" not in request.query_params,
            snippets=of_list(
                api.target,
                chosen.conditions(),
                chosen.order if chosen.order in ORDERS else "active_desc",
            ),
        )

    return show


def _go(site: Site) -> Page:
    async def go(request: Request, api: AsyncClient) -> Response:
        """Go to the typed id, id@seq or user:NAME; for any other text, search by prefix."""
        wanted = text(request.query_params, "to").strip()
        if not wanted:
            return see("/sessions")
        if wanted.startswith("user:"):
            return see(path("sessions", user=wanted.removeprefix("user:").strip()))
        if await _exists(api, wanted):
            return see(session_path(wanted))
        head, _, seq = wanted.rpartition("@")
        if head and seq.isascii() and seq.isdigit() and await _exists(api, head):
            return see(session_path(head, at=seq) + f"#m-{seq}")
        return see(path("sessions", id=wanted))

    return go


async def _exists(api: AsyncClient, session_id: str) -> bool:
    try:
        await api.sessions.get(session_id)
    except (NotFound, InvalidField):
        return False
    return True


def size_of(value: str) -> int:
    """Return the page size of an address.

    Raises:
        FormError: if the value is no number from 1 to 500.
    """
    if not value:
        return PAGE_SIZE
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:6]) <= MAX_PAGE_SIZE):
        raise FormError("size", f"must be a number from 1 to {MAX_PAGE_SIZE}")
    return int(value)


ROUTES = (("GET", "/sessions", _list), ("GET", "/go", _go))
