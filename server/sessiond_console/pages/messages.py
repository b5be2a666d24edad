"""One message: its page, its exact bytes, and the files in it."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient, Message
from sessiond_console.history import seq_of
from sessiond_console.pages.assets import file_response
from sessiond_console.rendering.blocks import pretty_text
from sessiond_console.rendering.messages import Budget, inline_file, shown
from sessiond_console.rendering.text import shortened
from sessiond_console.site import Page, Site

MAX_RAW_CHARACTERS = 256 * 1024


def _show(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        message = await message_of(request, api)
        info = await api.sessions.get(message.session_id)
        raw, omitted = shortened(message.json, MAX_RAW_CHARACTERS)
        return site.page(
            request,
            "message.html",
            session_id=message.session_id,
            info=info,
            one=await run_in_threadpool(shown, message, Budget()),
            raw=raw,
            pretty=shortened(pretty_text(message.json), MAX_RAW_CHARACTERS)[0],
            omitted=omitted,
            tab="transcript",
            largest=max(1, message.token_count),
        )

    return show


def _raw(site: Site) -> Page:
    async def raw(request: Request, api: AsyncClient) -> Response:
        """Return the stored JSON byte for byte, as a download, so that no browser runs it."""
        message = await message_of(request, api)
        return Response(
            message.json.encode("utf-8", "surrogatepass"),
            media_type="application/octet-stream",
            headers={
                "content-disposition": f'attachment; filename="message-{message.seq}.json"',
                "content-security-policy": "sandbox; default-src 'none'",
            },
        )

    return raw


def _file(site: Site) -> Page:
    async def file(request: Request, api: AsyncClient) -> Response:
        message = await message_of(request, api)
        index = seq_of("index", request.path_params["index"])
        found = await run_in_threadpool(inline_file, message, index)
        if found is None:
            return site.not_found(request, "The message has no such file.")
        file, content = found
        return file_response(content, file.media_type, f"message-{message.seq}-{index}")

    return file


async def message_of(request: Request, api: AsyncClient) -> Message:
    """Return the message that an address names.

    Raises:
        FormError: if the seq is not a number.
        SessiondError: if the message cannot be read.
    """
    seq = seq_of("seq", request.path_params["seq"])
    return await api.sessions.get_message(request.path_params["session_id"], seq)


ROUTES = (
    ("GET", "/sessions/{session_id:id}/messages/{seq}", _show),
    ("GET", "/sessions/{session_id:id}/messages/{seq}/json", _raw),
    ("GET", "/sessions/{session_id:id}/messages/{seq}/files/{index}", _file),
)
