"""The context that the model receives, and plots of a session's tokens and times."""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient, FitChange, Message, Turn, TurnPreview
from sessiond.errors import NotFound, ServerUnavailable, SessiondError, Unauthenticated
from sessiond_console.listing import turn_page
from sessiond_console.plots import plots_of, points_of
from sessiond_console.rendering.messages import excerpt
from sessiond_console.site import Page, Site

MAX_MESSAGES = 500
MAX_BYTES = 16 * 1024 * 1024
# Maximum number of characters of a shown request, and of a form field.
MAX_SHOWN = 256 * 1024
MAX_FIELD = 4000
WINDOW_KEYS = ("max_messages", "max_tokens", "keep_fraction")


async def branch_of(api: AsyncClient, session_id: str) -> tuple[list[Message], set[int], bool]:
    """Return the newest messages, the seqs of the branch among them, and whether older ones exist.

    The branch is the path from the newest message through its parents. It is the input of a model.
    """
    newest: list[Message] = []
    size, is_partial = 0, False
    async for message in api.sessions.get_messages(
        session_id, order="desc", limit=MAX_MESSAGES + 1
    ):
        size += message.content_bytes
        if len(newest) == MAX_MESSAGES or (newest and size > MAX_BYTES):
            is_partial = True
            break
        newest.append(message)
    branch: set[int] = set()
    wanted = newest[0].seq if newest else 0
    for message in newest:
        if message.seq == wanted:
            branch.add(message.seq)
            wanted = 0 if message.is_root else message.parent_seq or message.seq - 1
    return newest[::-1], branch, is_partial


def window_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of the window that a session's config sets; {} for none."""
    found = config.get("context")
    if not isinstance(found, Mapping):
        return {}
    return {key: found[key] for key in WINDOW_KEYS if found.get(key)}


async def preview_of(
    api: AsyncClient, session_id: str, asked: Mapping[str, str]
) -> tuple[TurnPreview | None, str]:
    """Return the request that the next turn would make; or None, and why it would make none.

    Args:
        api: the client.
        session_id: the session.
        asked: "prompt" ("" = none) and "model" ("" = the session's).
    """
    try:
        preview = await api.sessions.preview_turn(
            session_id, asked["prompt"] or None, model=asked["model"] or None
        )
    except (Unauthenticated, NotFound, ServerUnavailable):
        raise
    except SessiondError as error:
        return None, error.message
    return preview, ""


def shown_request(preview: TurnPreview | None) -> str:
    """Return the request as indented JSON; "" if it is too large to be shown."""
    if preview is None or not 0 < len(preview.request_json) <= MAX_SHOWN:
        return ""
    return json.dumps(preview.request, ensure_ascii=False, indent=2)


def _context(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        info = await api.sessions.get(session_id)
        messages, branch, is_partial = await branch_of(api, session_id)
        asked = {
            name: request.query_params.get(name, "")[:MAX_FIELD] for name in ("prompt", "model")
        }
        preview, problem = await preview_of(api, session_id, asked)
        turns, _ = await turn_page(api, session_id, "", "", 50)
        latest: Turn | None = next((turn for turn in turns if turn.ended_at), None)
        next_changes: dict[int, list[FitChange]] = defaultdict(list)
        for change in preview.changes if preview else ():
            next_changes[change.seq or 0].append(change)
        # The preview knows exactly which messages are sent; `branch` is only an estimate.
        seqs = set(preview.seqs) if preview else branch
        given = [message for message in messages if message.seq in seqs]
        prompt = info.config.get("system_prompt")
        return site.page(
            request,
            "context.html",
            info=info,
            session_id=session_id,
            tab="context",
            messages=[
                (message, message.seq in seqs, message.seq in branch, excerpt(message))
                for message in messages
            ],
            asked=asked,
            preview=preview,
            problem=problem,
            request_text=shown_request(preview),
            next_changes=dict(next_changes),
            is_partial=is_partial,
            system_prompt=prompt if isinstance(prompt, str) else "",
            window=window_of(info.config),
            latest=latest,
            given_tokens=sum(message.token_count for message in given),
            given_count=len(preview.seqs) if preview else len(given),
            largest=max((message.token_count for message in messages), default=1) or 1,
        )

    return show


def _tokens(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        info = await api.sessions.get(session_id)
        points, is_partial = await points_of(api, session_id)
        counts = await api.sessions.get_token_counts(session_id)
        return site.page(
            request,
            "tokens.html",
            info=info,
            session_id=session_id,
            tab="tokens",
            plots=plots_of(points),
            is_partial=is_partial,
            counts=counts,
            top=sorted(points, key=lambda point: point.tokens, reverse=True)[:10],
        )

    return show


_BASE = "/sessions/{session_id:id}"
ROUTES = (("GET", f"{_BASE}/context", _context), ("GET", f"{_BASE}/tokens", _tokens))
