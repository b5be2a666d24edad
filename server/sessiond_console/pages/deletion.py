"""Deletes all sessions that meet a filter, once the user has confirmed their number."""

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond.v1 import session_service_pb2 as pb
from sessiond_console.filters import Filter, filter_of
from sessiond_console.listing import proto_filter
from sessiond_console.paths import path
from sessiond_console.site import Page, Site, form_of, see, text

TIMEOUT_S = 600.0


async def _delete(
    api: AsyncClient, chosen: Filter, *, dry_run: bool, request_id: str = ""
) -> pb.DeleteSessionsResponse:
    request = pb.DeleteSessionsRequest(dry_run=dry_run, request_id=request_id)
    if chosen.is_set:
        request.filter.CopyFrom(proto_filter(chosen.conditions()))
    else:
        request.all = True
    return await api.call(
        lambda stubs: stubs.sessions.DeleteSessions,
        request,
        is_repeatable=dry_run or bool(request_id),
        timeout=TIMEOUT_S,
    )


def _ask(site: Site) -> Page:
    async def ask(request: Request, api: AsyncClient) -> Response:
        return await _page(site, request, api, filter_of(request.query_params))

    return ask


async def _page(
    site: Site, request: Request, api: AsyncClient, chosen: Filter, problem: str = ""
) -> Response:
    return site.page(
        request,
        "delete_sessions.html",
        http_status=409 if problem else 200,
        chosen=chosen,
        counted=await _delete(api, chosen, dry_run=True),
        back=path("sessions", **chosen.query()),
        problem=problem,
    )


def _act(site: Site) -> Page:
    async def act(request: Request, api: AsyncClient) -> Response:
        form = await form_of(request)
        chosen = filter_of(form)
        counted = await _delete(api, chosen, dry_run=True)
        if text(form, "confirm").strip() != str(counted.session_count):
            problem = (
                f"Nothing is deleted. The filter now selects {counted.session_count} sessions: "
                "type that number."
            )
            return await _page(site, request, api, chosen, problem)
        done = await _delete(api, chosen, dry_run=False, request_id=text(form, "request_id"))
        if done.locked_count:
            problem = (
                f"Deleted: {done.session_count}. Kept, because others have locked them: "
                f"{', '.join(done.locked_session_ids)}. Try again later."
            )
            return await _page(site, request, api, chosen, problem)
        return see("/sessions", "deleted")

    return act


ROUTES = (("GET", "/delete-sessions", _ask), ("POST", "/delete-sessions", _act))
