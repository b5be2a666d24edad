"""Samples the state of a process into gauges, for /metrics."""

import asyncio
import os
import platform
import resource
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import structlog

from sessiond import __version__
from sessiond_server.app import Services
from sessiond_server.core.supervision import Loop
from sessiond_server.db.backlog import MAX_QUEUES, read_backlog
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.health import HealthServicer
from sessiond_server.rpc.admission import Admission
from sessiond_server.settings import Settings
from sessiond_server.telemetry import metrics
from sessiond_server.telemetry.certificates import expires_at

SAMPLE_S = 1.0
BACKLOG_S = 15.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

log = structlog.get_logger(__name__)


class Sampler:
    """Samples a process every second, and the database's backlogs less often."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        admission: Admission,
        health: HealthServicer,
    ) -> None:
        self._settings = settings
        self._services = services
        self._admission = admission
        self._health = health
        self._cpu_s = self._waited_ms = self._refused = 0.0
        self._queues: set[str] = set()

    def loops(self) -> dict[str, Loop]:
        """Return the background loops by name."""
        loops: dict[str, Loop] = {"process_metrics": self._sample_process}
        if self._settings.metrics_listen:
            loops["backlog_metrics"] = self._sample_backlog
        return loops

    async def _sample_process(self) -> None:
        metrics.BUILD.labels(__version__, platform.python_version()).set(1)
        metrics.POOL_MAX.set(self._settings.pool_size)
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + SAMPLE_S
            await asyncio.sleep(SAMPLE_S)
            metrics.LOOP_LAG.observe(max(loop.time() - due, 0))
            metrics.HEARTBEAT.set(time.time())
            await self.sample()

    async def sample(self) -> None:
        """Set the gauges of this process."""
        metrics.flush()
        admission, services = self._admission, self._services
        metrics.CALLS_IN_PROGRESS.labels("calls").set(admission.calls)
        metrics.CALLS_IN_PROGRESS.labels("streams").set(admission.streams)
        metrics.READY.set(await self._health.is_serving())
        self._sample_pool()
        sessions, watchers = services.watching.counts()
        metrics.WATCHED_SESSIONS.set(sessions)
        metrics.WATCHERS.set(watchers)
        metrics.TURNS_RUNNING.set(len(services.runner.running()))
        metrics.CACHE_BYTES.set(services.page_cache_bytes())
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = usage.ru_utime + usage.ru_stime
        metrics.CPU.inc(cpu_s - self._cpu_s)
        self._cpu_s = cpu_s
        _sample_memory()

    def _sample_pool(self) -> None:
        stats = self._services.database.pool_stats()
        metrics.POOL_SIZE.set(stats.get("pool_size", 0))
        metrics.POOL_IN_USE.set(stats.get("pool_size", 0) - stats.get("pool_available", 0))
        metrics.POOL_WAITING.set(stats.get("requests_waiting", 0))
        waited_ms, refused = stats.get("requests_wait_ms", 0), stats.get("requests_errors", 0)
        metrics.POOL_WAIT.inc((waited_ms - self._waited_ms) / 1000)
        metrics.POOL_ERRORS.inc(refused - self._refused)
        self._waited_ms, self._refused = waited_ms, refused

    async def _sample_backlog(self) -> None:
        while True:
            with suppress(DatabaseUnavailable, PoolExhausted, Contention):
                await self.sample_backlog()
            await asyncio.to_thread(self.sample_files)
            await asyncio.sleep(BACKLOG_S)

    async def sample_backlog(self) -> None:
        """Set the gauges of the backlogs in the database."""
        backlog, queues = await read_backlog(self._services.database)
        metrics.PURGE_LOGS.set(backlog.purge_logs)
        metrics.PURGE_OLDEST.set(backlog.purge_oldest_s)
        metrics.LOOSE_OBJECTS.set(backlog.loose_objects)
        metrics.EXPIRED_WAITING.set(backlog.expired_waiting)
        metrics.TURNS_QUEUED.set(backlog.turns_queued)
        metrics.MIGRATION.set(int(backlog.revision or 0))
        # A worker's metrics file keeps each queue forever, so empty and deleted queues are set to
        # 0.
        waiting = dict.fromkeys(self._queues, (0, 0, 0.0))
        for queue in queues:
            is_named = queue.queue in waiting or len(waiting) < MAX_QUEUES
            name = queue.queue if is_named else "other"
            pending, failed, oldest_s = waiting.get(name, (0, 0, 0.0))
            waiting[name] = (
                pending + queue.sessions,
                failed + queue.failed,
                max(oldest_s, queue.oldest_s),
            )
        self._queues = set(waiting)
        for name, (pending, failed, oldest_s) in waiting.items():
            metrics.QUEUE_PENDING.labels(name).set(pending)
            metrics.QUEUE_FAILED.labels(name).set(failed)
            metrics.QUEUE_OLDEST.labels(name).set(oldest_s)

    def sample_files(self) -> None:
        """Set the gauges of the disks and of the certificate."""
        settings = self._settings
        places = {"temporary": Path(tempfile.gettempdir())}
        if not settings.database_url:
            places["data"] = settings.data_dir
        location = settings.asset_location().removeprefix("file://")
        if location.startswith("/"):
            places["assets"] = Path(location)
        for what, path in places.items():
            with suppress(OSError):
                usage = shutil.disk_usage(path)
                metrics.DISK_FREE.labels(what).set(usage.free)
                metrics.DISK_SIZE.labels(what).set(usage.total)
        if settings.tls_cert:
            try:
                left_s = expires_at(settings.tls_cert.read_bytes()) - time.time()
            except (OSError, ValueError) as e:
                log.warning("certificate_unreadable", error=str(e))
            else:
                metrics.CERTIFICATE.labels(str(settings.tls_cert)).set(left_s)


def _sample_memory() -> None:
    with suppress(OSError):  # there is no /proc on macOS
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        metrics.RESIDENT.set(int(pages) * _PAGE_BYTES)
        metrics.OPEN_FILES.set(sum(1 for _ in Path("/proc/self/fd").iterdir()))
