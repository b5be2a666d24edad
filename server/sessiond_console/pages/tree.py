"""The fork tree of a session, and two of its branches side by side."""

from dataclasses import dataclass
from itertools import zip_longest

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond_console.family import family_of
from sessiond_console.history import Span, read_span, seq_of
from sessiond_console.paths import session_path
from sessiond_console.rendering.messages import Shown, fold
from sessiond_console.site import FormError, Page, Site, text

ROW, COLUMN, RADIUS = 44, 36, 7


@dataclass(frozen=True, slots=True)
class Row:
    """Two messages side by side."""

    left: Shown | None
    right: Shown | None

    @property
    def is_same(self) -> bool:
        """Whether both messages are equal, byte for byte."""
        if self.left is None or self.right is None:
            return False
        return self.left.message.json == self.right.message.json


def _tree(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        info = await api.sessions.get(session_id)
        family = await family_of(api, info)
        depth = max(node.depth for node in family.nodes)
        return site.page(
            request,
            "tree.html",
            info=info,
            session_id=session_id,
            tab="tree",
            family=family,
            row=ROW,
            column=COLUMN,
            radius=RADIUS,
            width=(depth + 1) * COLUMN + 760,
            height=len(family.nodes) * ROW,
        )

    return show


def _compare(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        other_id = text(request.query_params, "with")
        if not other_id:
            raise FormError("with", "must be the id of the session to compare with")
        info = await api.sessions.get(session_id)
        other = await api.sessions.get(other_id)
        cut = (await family_of(api, info)).cut_of(session_id, other_id)
        cut = min(cut, info.last_seq, other.last_seq)
        given = text(request.query_params, "after")
        after = seq_of("after", given) if given else cut
        left = await read_span(api, session_id, Span(after=after))
        right = await read_span(api, other_id, Span(after=after))
        rows = await run_in_threadpool(_rows, left.shown, right.shown)
        later = max((one.later or 0) for one in (left, right))
        return site.page(
            request,
            "compare.html",
            info=info,
            other=other,
            session_id=session_id,
            other_id=other_id,
            tab="tree",
            cut=cut,
            after=after,
            rows=rows,
            next_page=session_path(session_id, "compare", **{"with": other_id, "after": later})
            if later
            else "",
        )

    return show


def _rows(left: list[Shown], right: list[Shown]) -> list[Row]:
    for side in (left, right):
        fold(side)
    return [Row(one, other) for one, other in zip_longest(left, right)]


_BASE = "/sessions/{session_id:id}"
ROUTES = (("GET", f"{_BASE}/tree", _tree), ("GET", f"{_BASE}/compare", _compare))
