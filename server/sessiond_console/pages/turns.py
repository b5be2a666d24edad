"""Turns: the queue and the history, one turn, sending and aborting."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient, Turn
from sessiond_console.history import Span, read_span
from sessiond_console.listing import TURN_STATES, turn_page
from sessiond_console.pages.settings import json_object
from sessiond_console.paths import session_path
from sessiond_console.rendering.messages import fold
from sessiond_console.site import FormError, Page, Site, form_of, see, text

MODES = ("enqueue", "immediate")


class Bar:
    """How long a turn waited and ran, as lengths of a bar of 100 units.

    Args:
        turn: the turn.
        longest: the duration of the longest turn on the page, including its wait.
    """

    def __init__(self, turn: Turn, longest: timedelta) -> None:
        self.wait, self.run = times_of(turn)
        scale = 100 / max(longest.total_seconds(), 0.001)
        self.wait_units = round(self.wait.total_seconds() * scale, 1)
        self.run_units = round(self.run.total_seconds() * scale, 1)


def times_of(turn: Turn) -> tuple[timedelta, timedelta]:
    """Return how long a turn waited and ran, up to now if it still waits or runs."""
    now = datetime.now(UTC)
    started = turn.started_at or turn.ended_at or now
    wait = max(started - turn.created_at, timedelta(0))
    run = max((turn.ended_at or now) - started, timedelta(0)) if turn.started_at else timedelta(0)
    return wait, run


def _list(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        info = await api.sessions.get(session_id)
        state = text(request.query_params, "state")
        turns, token = await turn_page(api, session_id, state, text(request.query_params, "token"))
        longest = max((sum(times_of(turn), timedelta(0)) for turn in turns), default=timedelta(1))
        is_part = "hx-request" in request.headers
        return site.page(
            request,
            "turns_table.html" if is_part else "turns.html",
            info=info,
            session_id=session_id,
            tab="turns",
            turns=[(turn, Bar(turn, longest)) for turn in turns],
            state=state,
            states=TURN_STATES,
            # A filtered page, or a later one, may lack the turn that is running.
            may_be_under_way=bool(state or text(request.query_params, "token"))
            or any(turn.state in ("running", "queued") for turn in turns),
            next_page=session_path(session_id, "turns", state=state, token=token) if token else "",
        )

    return show


def _show(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        info = await api.sessions.get(session_id)
        turn = await api.sessions.get_turn(session_id, request.path_params["turn_id"])
        shown = []
        if turn.first_seq:
            piece = await read_span(api, session_id, Span(after=turn.first_seq - 1))
            shown = [
                one
                for one in piece.shown
                if one.message.turn and one.message.turn.turn_id == turn.turn_id
            ]
            fold(shown)
        return site.page(
            request,
            "turn.html",
            info=info,
            session_id=session_id,
            tab="turns",
            turn=turn,
            bar=Bar(turn, sum(times_of(turn), timedelta(0))),
            shown=shown,
            largest=max((one.message.token_count for one in shown), default=1) or 1,
        )

    return show


def _send(site: Site) -> Page:
    async def send(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        prompt = text(form, "prompt").replace("\r\n", "\n")
        options: dict[str, Any] = {"mode": text(form, "mode") or "enqueue"}
        if options["mode"] not in MODES:
            raise FormError("mode", f"must be one of {', '.join(MODES)}")
        if model := text(form, "model").strip():
            options["model"] = model
        if given := text(form, "options").strip():
            options["options"] = json_object("options", given)
        if not prompt.strip() and not text(form, "continue"):
            raise FormError("prompt", "is empty; to continue without a prompt, tick its box")
        sent = await api.sessions.send(
            session_id,
            prompt if prompt.strip() else None,
            request_id=text(form, "request_id") or None,
            **options,
        )
        if text(form, "live"):
            body = json.dumps({"turn": sent.turn_id})
            return Response(body, media_type="application/json")
        return see(session_path(session_id) + "#end", "sent")

    return send


def _abort(site: Site) -> Page:
    async def abort(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        aborted = await api.sessions.abort(
            session_id,
            text(form, "turn_id") or None,
            include_queued=bool(text(form, "include_queued")),
            request_id=text(form, "request_id") or None,
        )
        if turn_id := text(form, "turn_id"):
            return see(session_path(session_id, "turns", turn_id), "aborted")
        return see(session_path(session_id, "turns"), "aborted" if aborted else "not-running")

    return abort


_BASE = "/sessions/{session_id:id}"
ROUTES = (
    ("GET", f"{_BASE}/turns", _list),
    ("GET", f"{_BASE}/turns/{{turn_id:id}}", _show),
    ("POST", f"{_BASE}/send", _send),
    ("POST", f"{_BASE}/abort", _abort),
)
