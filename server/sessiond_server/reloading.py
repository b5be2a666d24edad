"""SIGHUP: reloads some settings without ending a call or a connection."""

import signal
import sys
from asyncio import AbstractEventLoop
from collections.abc import Callable

import structlog

from sessiond_server import logs
from sessiond_server.providers.routing import Models
from sessiond_server.rpc.certificates import Certificate
from sessiond_server.settings import Settings
from sessiond_server.settings.loading import SettingsError

# Settings that can change in a running process. The TLS certificate and the providers' key files
# are also read again.
RELOADABLE = frozenset({"log_level", "providers"})

log = structlog.get_logger(__name__)


def on_hangup(
    loop: AbstractEventLoop, reload: Callable[[], None], stop: Callable[[], object]
) -> None:
    """Call `reload` at each SIGHUP, or `stop` if the signal says that the terminal is closed."""
    on_terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    loop.add_signal_handler(signal.SIGHUP, stop if on_terminal else reload)


def loaded(load: Callable[[], Settings], current: Settings) -> Settings | None:
    """Load the settings again, and log which changed settings need a restart.

    Returns:
        The settings; None if they are invalid, which is logged.
    """
    try:
        settings = load()
    except (SettingsError, SystemExit) as e:
        log.error("reload_failed", error=str(e), consequence="the former settings stay in force")
        return None
    before, after = current.model_dump(), settings.model_dump()
    ignored = sorted(
        name for name in after if after[name] != before[name] and name not in RELOADABLE
    )
    if ignored:
        log.warning("reload_needs_restart", settings=ignored)
    return settings


class Reloader:
    """Applies reloaded settings to this process."""

    def __init__(self, models: Models, certificate: Certificate | None) -> None:
        self._models = models
        self._certificate = certificate

    def apply(self, settings: Settings) -> None:
        """Apply the reloadable settings. If a new certificate is unusable, the former one stays."""
        logs.set_level(settings.log_level)
        self._models.reload(settings.providers)
        if self._certificate:
            try:
                self._certificate.reload()
            except OSError as e:
                log.error("certificate_not_reloaded", error=str(e))
        log.info("reloaded", log_level=settings.log_level)
