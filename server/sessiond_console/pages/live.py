"""Streams of server-sent events: a session's messages, and changes of the list of sessions."""

import asyncio
from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sessiond import AsyncClient, Message
from sessiond.errors import SessiondError
from sessiond_console.filters import Filter
from sessiond_console.following import Followers, event_bytes, tail
from sessiond_console.history import seq_of
from sessiond_console.listing import list_page
from sessiond_console.rendering.messages import Budget, shown
from sessiond_console.rendering.text import MAX_TEXT_CHARACTERS
from sessiond_console.site import Page, Site, text

# Changes within this time are announced by one event.
DEBOUNCE_S = 1.0
# A project's events do not include appends, so the list is also reloaded after this time.
REFRESH_S = 15.0
_HEADERS = {"x-accel-buffering": "no"}


def _session(site: Site) -> Page:
    followers = Followers()
    site.on_close.append(followers.close)

    async def live(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        after = request.headers.get("last-event-id") or text(request.query_params, "after") or "0"

        def render(message: Message) -> str:
            one = shown(message, Budget(MAX_TEXT_CHARACTERS))
            return site.html("one_message.html", one=one, session_id=session_id)

        given = text(request.query_params, "epoch")
        epoch = seq_of("epoch", given) if given else None
        after_seq = seq_of("after", after)
        stream = tail(followers, api, session_id, after_seq, render, epoch=epoch)
        # Read the first piece before the response starts: if the session cannot be watched, reading
        # raises an error, whose page can then still be returned.
        first = await anext(stream)
        return StreamingResponse(
            _guarded(first, stream), media_type="text/event-stream", headers=_HEADERS
        )

    return live


def _list(site: Site) -> Page:
    async def live(request: Request, api: AsyncClient) -> Response:
        # A browser that may not list the sessions gets no events either.
        await list_page(api, Filter({}), "", 1)
        return StreamingResponse(_changes(api), media_type="text/event-stream", headers=_HEADERS)

    return live


async def _guarded(
    first: bytes, stream: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a stream; end without an error if its session or server is gone."""
    try:
        yield first
        async for piece in stream:
            yield piece
    except SessiondError:
        # The tab connects again, and then gets the error as a status.
        return
    finally:
        await stream.aclose()


async def _changes(api: AsyncClient) -> AsyncGenerator[bytes, None]:
    """Yield an event after changes of the project's sessions, and at least every 15 seconds."""
    changed = asyncio.Event()

    async def watch() -> None:
        async for _ in api.events():
            changed.set()

    watching = asyncio.create_task(watch())
    try:
        yield b": connected\n\n"
        while not watching.done():
            waiting = asyncio.create_task(changed.wait())
            try:
                await asyncio.wait(
                    [waiting, watching], timeout=REFRESH_S, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                waiting.cancel()
            await asyncio.sleep(DEBOUNCE_S)
            changed.clear()
            yield event_bytes("changed", {})
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


ROUTES = (
    ("GET", "/sessions/{session_id:id}/live", _session),
    ("GET", "/live", _list),
)
