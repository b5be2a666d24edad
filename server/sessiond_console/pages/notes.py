"""Bookmarks and tasks of a session."""

from starlette.requests import Request
from starlette.responses import Response

from sessiond import AsyncClient
from sessiond_console.history import seq_of
from sessiond_console.pages.settings import json_object
from sessiond_console.paths import session_path
from sessiond_console.site import FormError, Page, Site, form_of, see, text

TASK_STATUSES = ("pending", "running", "success", "failed")


def _bookmarks(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        return site.page(
            request,
            "bookmarks.html",
            info=await api.sessions.get(session_id),
            session_id=session_id,
            tab="bookmarks",
            bookmarks=await api.bookmarks.list(session_id, page_size=500),
        )

    return show


def _change_bookmark(site: Site) -> Page:
    async def change(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        name, action = text(form, "name").strip(), text(form, "action")
        request_id = text(form, "request_id") or None
        seq = text(form, "seq").strip()
        at = seq_of("seq", seq) if seq else None
        description = text(form, "description").strip()
        if action == "create":
            await api.bookmarks.create(
                session_id, name, seq=at, description=description, request_id=request_id
            )
            note = "marked"
        elif action == "update":
            new_name = text(form, "new_name").strip()
            await api.bookmarks.update(
                session_id,
                name,
                seq=at,
                description=description,
                new_name=new_name if new_name != name else None,
                request_id=request_id,
            )
            note = "saved"
        elif action == "delete":
            await api.bookmarks.delete(session_id, name, request_id=request_id)
            note = "deleted"
        else:
            raise FormError("action", "must be create, update or delete")
        return see(session_path(session_id, "bookmarks"), note)

    return change


def _tasks(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        status = text(request.query_params, "status")
        if status and status not in TASK_STATUSES:
            raise FormError("status", f"must be one of {', '.join(TASK_STATUSES)}")
        return site.page(
            request,
            "tasks.html",
            info=await api.sessions.get(session_id),
            session_id=session_id,
            tab="tasks",
            tasks=await api.tasks.list(session_id, status=status or None, page_size=500),
            status=status,
            statuses=TASK_STATUSES,
        )

    return show


def _change_task(site: Site) -> Page:
    async def change(request: Request, api: AsyncClient) -> Response:
        session_id = request.path_params["session_id"]
        form = await form_of(request)
        task_id, action = text(form, "task_id").strip(), text(form, "action")
        request_id = text(form, "request_id") or None
        note = "saved"
        if action in ("create", "update"):
            data = json_object("data", text(form, "data"))
            seqs = [
                seq_of("message_seqs", part)
                for part in text(form, "message_seqs").replace(",", " ").split()
            ]
            status = text(form, "status") or "pending"
            if status not in TASK_STATUSES:
                raise FormError("status", f"must be one of {', '.join(TASK_STATUSES)}")
            if action == "create":
                await api.tasks.create(
                    session_id,
                    task_id=task_id or None,
                    status=status,
                    data=data,
                    message_seqs=seqs,
                    request_id=request_id,
                )
                note = "created"
            else:
                await api.tasks.update(
                    session_id,
                    task_id,
                    status=status,
                    data=data,
                    message_seqs=seqs,
                    etag=text(form, "etag") or None,
                    request_id=request_id,
                )
        elif action in ("up", "down"):
            await _move(api, session_id, task_id, -1 if action == "up" else 1)
            note = "moved"
        elif action == "delete":
            await api.tasks.delete(session_id, task_id, request_id=request_id)
            note = "deleted"
        else:
            raise FormError("action", "must be create, update, up, down or delete")
        return see(session_path(session_id, "tasks"), note)

    return change


async def _move(api: AsyncClient, session_id: str, task_id: str, step: int) -> None:
    """Move a task by one place: send the new order of all tasks up to this place."""
    ids = [task.task_id for task in await api.tasks.list(session_id, page_size=500)]
    if task_id not in ids:
        # This call raises TaskNotFound, because the task does not exist.
        await api.tasks.get(session_id, task_id)
        return
    at = ids.index(task_id)
    to = at + step
    if 0 <= to < len(ids):
        ids[at], ids[to] = ids[to], ids[at]
        await api.tasks.reorder(session_id, ids[: max(at, to) + 1])


_BASE = "/sessions/{session_id:id}"
ROUTES = (
    ("GET", f"{_BASE}/bookmarks", _bookmarks),
    ("POST", f"{_BASE}/bookmarks", _change_bookmark),
    ("GET", f"{_BASE}/tasks", _tasks),
    ("POST", f"{_BASE}/tasks", _change_task),
)
