"""Assets: pictures are shown, everything else is a download."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sessiond import AsyncClient
from sessiond_console.rendering.files import image_type, is_asset_id
from sessiond_console.site import Page, Site

FILE_HEADERS = {
    "content-security-policy": "sandbox; default-src 'none'",
    "x-content-type-options": "nosniff",
}
# The content of an asset never changes, so browsers may cache it. Shared caches may not.
_CACHING = {"cache-control": "private, max-age=3600"}


def _show(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        asset_id = request.path_params["asset_id"]
        if not is_asset_id(asset_id):
            return site.not_found(request, "There is no such asset.")
        asset = await api.assets.get(asset_id)
        pieces = aiter(api.assets.download(asset_id))
        # The first piece shows whether the content is a picture, whatever its media type says.
        first = await anext(pieces, b"")
        headers = headers_of(first, asset.media_type, asset_id[:16]) | _CACHING

        async def content() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        headers["content-length"] = str(asset.size)
        return StreamingResponse(content(), headers=headers)

    return show


def file_response(content: bytes, media_type: str, name: str) -> Response:
    """Return a file of a transcript: a picture inline, everything else as an attachment."""
    return Response(content, headers=headers_of(content, media_type, name))


def headers_of(start: bytes, media_type: str, name: str) -> dict[str, str]:
    """Return the headers of a file.

    Args:
        start: the beginning of its content.
        media_type: what its sender says it is.
        name: the file's name for a download, made of harmless characters.
    """
    found = image_type(start)
    headers = FILE_HEADERS | {"content-type": found or "application/octet-stream"}
    if not found:
        kind = media_type.partition(";")[0].rpartition("/")[2]
        extension = f".{kind}" if kind.isascii() and kind.isalnum() and len(kind) < 8 else ""
        headers["content-disposition"] = f'attachment; filename="{name}{extension}"'
    return headers


ROUTES = (("GET", "/assets/{asset_id}", _show),)
