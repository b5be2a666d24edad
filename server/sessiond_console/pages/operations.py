"""Pages for operators: queues, projects and keys, the server."""

import asyncio
import resource
import sys
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

import sessiond
from sessiond import AsyncClient
from sessiond.errors import SessiondError
from sessiond.v1 import session_service_pb2 as pb
from sessiond_console.filters import Filter
from sessiond_console.history import seq_of
from sessiond_console.listing import list_page
from sessiond_console.paths import path
from sessiond_console.site import FormError, Page, Site, form_of, see, text

MAX_FAILURES = 200
ROUND_TRIPS = 5


def _queues(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        names = await api.processing.queues()
        # Counting a queue with many sessions takes long, so a few queues are counted at once.
        limit = asyncio.Semaphore(4)

        async def counts(name: str) -> object:
            async with limit:
                return await api.processing.counts(name)

        found = await asyncio.gather(*(counts(name) for name in names[:100]))
        return site.page(
            request, "queues.html", queues=list(zip(names, found, strict=False)), names=names[100:]
        )

    return show


def _queue(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        queue = request.path_params["queue"]
        session_id = text(request.query_params, "session").strip()
        failures = []
        if session_id:
            async for failure in api.processing.failed_messages(queue, session_id, page_size=100):
                failures.append(failure)
                if len(failures) == MAX_FAILURES:
                    break
        return site.page(
            request,
            "queue.html",
            queue=queue,
            counts=await api.processing.counts(queue, session_id or None),
            of_session=session_id,
            failures=failures,
        )

    return show


def _requeue(site: Site) -> Page:
    async def requeue(request: Request, api: AsyncClient) -> Response:
        queue = request.path_params["queue"]
        form = await form_of(request)
        session_id, seq = text(form, "session").strip(), text(form, "seq").strip()
        if not session_id:
            raise FormError("session", "must be the id of a session")
        if seq:
            await api.processing.requeue(queue, session_id, seqs=[seq_of("seq", seq)])
        else:
            await api.processing.requeue(queue, session_id, failed=True)
        return see(path("queues", queue, session=session_id), "requeued")

    return requeue


def _projects(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        return site.page(
            request, "projects.html", projects=await api.admin.list_projects(page_size=500)
        )

    return show


def _create_project(site: Site) -> Page:
    async def create(request: Request, api: AsyncClient) -> Response:
        name = text(await form_of(request), "name").strip()
        await api.admin.create_project(name)
        return see(path("projects", name), "created")

    return create


def _project(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        return await _keys(site, request, api)

    return show


async def _keys(site: Site, request: Request, api: AsyncClient, secret: str = "") -> Response:
    name = request.path_params["name"]
    keys = await api.admin.list_api_keys(name)
    usage = await api.admin.get_project_usage(name)
    limits = {
        "Calls a second": usage.calls_per_second,
        "Messages a second": usage.messages_per_second,
        "Sessions": usage.sessions,
        "Bytes of messages and assets": usage.bytes,
        "Running and queued turns": usage.running_turns,
        "Tokens of models today (UTC)": usage.model_tokens,
    }
    return site.page(request, "project.html", name=name, keys=keys, secret=secret, limits=limits)


def _create_key(site: Site) -> Page:
    async def create(request: Request, api: AsyncClient) -> Response:
        form = await form_of(request)
        made = await api.admin.create_api_key(
            request.path_params["name"],
            label=text(form, "label").strip(),
            is_admin=bool(text(form, "is_admin")),
        )
        # Not a redirect: the secret is in this response and nowhere else.
        return await _keys(site, request, api, made.secret or "")

    return create


def _revoke_key(site: Site) -> Page:
    async def revoke(request: Request, api: AsyncClient) -> Response:
        form = await form_of(request)
        await api.admin.revoke_api_key(text(form, "key_id"))
        return see(path("projects", request.path_params["name"]), "revoked")

    return revoke


def _server(site: Site) -> Page:
    async def show(request: Request, api: AsyncClient) -> Response:
        times: list[float] = []
        error: SessiondError | None = None
        counts = None
        try:
            for _ in range(ROUND_TRIPS):
                before = time.perf_counter()
                await list_page(api, Filter({}), "", 1)
                times.append(time.perf_counter() - before)
            if "count" in request.query_params:
                counts = await api.call(
                    lambda stubs: stubs.sessions.DeleteSessions,
                    pb.DeleteSessionsRequest(all=True, dry_run=True),
                    is_repeatable=True,
                )
        except sessiond.errors.Unavailable as down:
            error = down
        return site.page(
            request,
            "server.html",
            http_status=503 if error else 200,
            error=error,
            target=api.target,
            best_ms=min(times) * 1000 if times else 0.0,
            worst_ms=max(times) * 1000 if times else 0.0,
            counts=counts,
            version=sessiond.__version__,
            peak_bytes=peak_memory_bytes(),
            options=site.options,
        )

    return show


def peak_memory_bytes() -> int:
    """Return the peak memory use of this process, in bytes."""
    try:
        # On Linux, getrusage also counts the parent's memory at the start of this process.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage if sys.platform == "darwin" else usage * 1024


ROUTES = (
    ("GET", "/queues", _queues),
    ("GET", "/queues/{queue:id}", _queue),
    ("POST", "/queues/{queue:id}/requeue", _requeue),
    ("GET", "/projects", _projects),
    ("POST", "/projects", _create_project),
    ("GET", "/projects/{name:id}", _project),
    ("POST", "/projects/{name:id}/keys", _create_key),
    ("POST", "/projects/{name:id}/revoke", _revoke_key),
    ("GET", "/server", _server),
)
