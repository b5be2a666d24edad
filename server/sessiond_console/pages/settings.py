"""A session's settings, and actions on the session as a whole, such as copy, destroy and delete."""

import json
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sessiond import AsyncClient, SessionInfo
from sessiond.errors import ETagMismatch, InvalidField
from sessiond_console.display import json_text
from sessiond_console.history import seq_of
from sessiond_console.paths import session_path
from sessiond_console.site import FormError, Page, Site, form_of, see, text

_TEXTS = ("title", "user", "model")
_OBJECTS = ("config", "metadata")


def values_of(info: SessionInfo) -> dict[str, str]:
    """Return the form's values of a session's settings."""
    found = {name: str(info[name]) for name in _TEXTS}
    found |= {name: json_text(info[name]) for name in _OBJECTS}
    ttl = info.idle_ttl
    found["idle_ttl"] = "" if ttl is None else f"{ttl.total_seconds():g}"
    return found


def changes_of(info: SessionInfo, form: dict[str, str]) -> dict[str, Any]:
    """Return the settings that a form changes, as keywords of `update`.

    Raises:
        FormError: if a value is malformed.
    """
    before = values_of(info)
    found: dict[str, Any] = {}
    for name in _TEXTS:
        if form[name] != before[name]:
            found[name] = form[name]
    for name in _OBJECTS:
        if form[name].replace("\r\n", "\n").strip() != before[name].strip():
            found[name] = json_object(name, form[name])
    if form["idle_ttl"].strip() != before["idle_ttl"]:
        found |= _expiry(form["idle_ttl"].strip())
    return found


def json_object(name: str, value: str) -> dict[str, Any]:
    """Return the JSON object that a field holds; {} for an empty one.

    Raises:
        FormError: if the value is not a JSON object.
    """
    try:
        parsed = json.loads(value) if value.strip() else {}
    except RecursionError:
        raise FormError(name, "is nested too deeply") from None
    except ValueError as error:
        raise FormError(name, f"is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise FormError(name, 'must be a JSON object, such as {"plan": "pro"}')
    return parsed


def _expiry(value: str) -> dict[str, Any]:
    if not value:
        return {"never_expires": True}
    try:
        return {"idle_ttl": timedelta(seconds=float(value))}
    except (ValueError, OverflowError):
        raise FormError("idle_ttl", "must be a number of seconds, or empty for never") from None


def _page(site: Site, request: Request, info: SessionInfo, **values: Any) -> Response:
    shown: dict[str, Any] = {
        "form": values_of(info),
        "problem": "",
        "theirs": None,
        "etag": info.etag,
    }
    return site.page(
        request,
        "settings.html",
        info=info,
        session_id=info.session_id,
        tab="settings",
        **{**shown, **values},
    )


def _show(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        return _page(site, request, await api.sessions.get(request.path_params["session_id"]))

    return show


def _change(site: Site) -> Page:
    async def change(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        given = {name: text(form, name) for name in (*_TEXTS, *_OBJECTS, "idle_ttl")}
        etag = text(form, "etag")
        info = await api.sessions.get(session_id)
        if etag != info.etag:
            return _conflict(site, request, info, given)
        try:
            changes = changes_of(info, given)
            if changes:
                request_id = text(form, "request_id") or None
                await api.sessions.update(session_id, etag=etag, request_id=request_id, **changes)
        except ETagMismatch:
            return _conflict(site, request, await api.sessions.get(session_id), given)
        except (FormError, InvalidField) as error:
            return _page(site, request, info, form=given, problem=str(error), http_status=400)
        return see(session_path(session_id, "settings"), "saved")

    return change


def _conflict(site: Site, request: Request, info: SessionInfo, given: dict[str, str]) -> Response:
    """Show the entered values beside those that another user has saved meanwhile."""
    theirs = {k: v for k, v in values_of(info).items() if v != given[k].replace("\r\n", "\n")}
    return _page(site, request, info, form=given, theirs=theirs, http_status=409)


def _copy(site: Site) -> Page:
    async def copy(request: Request, api: AsyncClient) -> Response:
        form = await form_of(request)
        seq = text(form, "up_to_seq").strip()
        made = await api.sessions.copy(
            request.path_params["session_id"],
            text(form, "new_session_id").strip() or None,
            up_to_seq=seq_of("up_to_seq", seq) if seq else None,
            request_id=text(form, "request_id") or None,
        )
        return see(session_path(made.new_session_id), "copied")

    return copy


def _rewind(site: Site) -> Page:
    async def rewind(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        if text(form, "confirm") != session_id:
            raise FormError("confirm", "does not match: type the session's id to remove messages")
        await api.sessions.rewind(
            session_id,
            to_seq=seq_of("to_seq", text(form, "to_seq").strip()),
            expected_last_seq=seq_of("last_seq", text(form, "last_seq")),
            expected_epoch=seq_of("epoch", text(form, "epoch")),
            abort_turn=bool(text(form, "abort_turn")),
            request_id=text(form, "request_id") or None,
        )
        return see(session_path(session_id), "rewound")

    return rewind


def _change_state(site: Site) -> Page:
    async def change(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        state = json_object("state", text(form, "state"))
        # An update keeps keys that it does not name, so name the keys that the form removed.
        gone = (await api.sessions.get(session_id)).state or {}
        await api.sessions.update(
            session_id,
            state=state,
            remove_state=[key for key in gone if key not in state],
            state_etag=text(form, "state_etag") or None,
            request_id=text(form, "request_id") or None,
        )
        return see(session_path(session_id, "settings"), "saved")

    return change


def _destroy(site: Site) -> Page:
    async def destroy(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        request_id = text(await form_of(request), "request_id") or None
        await api.sessions.destroy(session_id, request_id=request_id)
        return see(session_path(session_id, "settings"), "destroyed")

    return destroy


def _resume(site: Site) -> Page:
    async def resume(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        request_id = text(await form_of(request), "request_id") or None
        await api.sessions.resume(session_id, request_id=request_id)
        return see(session_path(session_id, "settings"), "resumed")

    return resume


def _delete(site: Site) -> Page:
    async def delete(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        if text(form, "confirm") != session_id:
            raise FormError("confirm", "does not match: type the session's id to delete it")
        await api.sessions.delete(
            session_id,
            etag=text(form, "etag") or None,
            request_id=text(form, "request_id") or None,
        )
        return see("/sessions", "deleted")

    return delete


def _export(site: Site) -> Page:
    async def export(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        lines = aiter(api.sessions.export_lines(session_id, assets=False))
        # Read the first line before the response starts: reading raises if the session is missing.
        first = await anext(lines)

        async def content() -> Any:
            yield first.encode("utf-8", "surrogatepass")
            async for line in lines:
                yield line.encode("utf-8", "surrogatepass")

        name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in session_id)
        disposition = f'attachment; filename="{name[:100]}.jsonl"'
        return StreamingResponse(
            content(),
            media_type="application/octet-stream",
            headers={"content-disposition": disposition},
        )

    return export


_BASE = "/sessions/{session_id:id}"
ROUTES = (
    ("GET", f"{_BASE}/settings", _show),
    ("POST", f"{_BASE}/settings", _change),
    ("POST", f"{_BASE}/copy", _copy),
    ("POST", f"{_BASE}/rewind", _rewind),
    ("POST", f"{_BASE}/state", _change_state),
    ("POST", f"{_BASE}/destroy", _destroy),
    ("POST", f"{_BASE}/resume", _resume),
    ("POST", f"{_BASE}/delete", _delete),
    ("GET", f"{_BASE}/export", _export),
)
