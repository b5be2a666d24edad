"""Acts on the sessions that were picked in the list, once the user has confirmed them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond.errors import NotFound, ServerUnavailable, SessiondError, Unauthenticated
from sessiond_console.site import Page, Site, form_of, see, text

MAX_PICKED = 500
AT_ONCE = 8

_Act = Callable[[AsyncClient, str, str], Awaitable[object]]
ACTS: dict[str, _Act] = {
    "delete": lambda api, session_id, request_id: api.sessions.delete(
        session_id, allow_missing=True, request_id=request_id
    ),
    "destroy": lambda api, session_id, request_id: api.sessions.destroy(
        session_id, request_id=request_id
    ),
    "resume": lambda api, session_id, request_id: api.sessions.resume(
        session_id, request_id=request_id
    ),
}


def _picked(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        form = await form_of(request)
        given = [value for value in form.getlist("pick") if isinstance(value, str) and value]
        picked = list(dict.fromkeys(given))
        act, request_id = text(form, "act"), text(form, "request_id")
        problem = ""
        failures: Sequence[tuple[str, str]] = ()
        if act not in ACTS:
            problem = "Nothing is changed: choose what to do with the sessions."
        elif not picked:
            problem = "Nothing is changed: pick sessions in the list first."
        elif len(picked) > MAX_PICKED:
            problem = f"Nothing is changed: at most {MAX_PICKED} sessions can be picked at once."
        elif text(form, "confirm"):
            failures = await _act_on_all(api, ACTS[act], picked, request_id)
            if not failures:
                return see("/sessions", f"picked-{act}")
            problem = f"{len(picked) - len(failures)} of {len(picked)} sessions are done."
        return site.page(
            request,
            "picked.html",
            http_status=(409 if failures else 400) if problem else 200,
            act=act,
            picked=[name for name, _ in failures] or picked,
            failures=dict(failures),
            problem=problem,
        )

    return show


async def _act_on_all(
    api: AsyncClient, act: _Act, picked: Sequence[str], request_id: str
) -> list[tuple[str, str]]:
    """Act on each session. Return the sessions on which it failed, each with the reason.

    Raises:
        Unauthenticated, ServerUnavailable: no further session could be changed.
    """
    places = asyncio.Semaphore(AT_ONCE)

    async def act_on(session_id: str) -> str:
        async with places:
            try:
                # The request_id of the form makes it safe to send the form twice.
                await act(api, session_id, request_id)
            except (Unauthenticated, ServerUnavailable):
                raise
            except NotFound:
                return "it does not exist any more"
            except SessiondError as error:
                return error.message
            return ""

    problems = await asyncio.gather(*map(act_on, picked))
    return [(name, problem) for name, problem in zip(picked, problems, strict=True) if problem]


ROUTES = (("POST", "/picked-sessions", _picked),)
