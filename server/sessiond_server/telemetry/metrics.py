"""The metrics of a server process, by the names under which Prometheus sees them.

Labels are bounded by the code or by the operator's settings. No label holds a session, a project, a
user or a key.

With several workers, prometheus_client keeps each worker's values in a file, and the parent process
adds them up. prometheus_client does so if the variable PROMETHEUS_MULTIPROC_DIR is set when the
library is imported. The parent sets this variable for its workers. `multiprocess_mode` says how the
values of a gauge are combined.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]

Mode: TypeAlias = Literal["livesum", "livemax", "livemin", "livemostrecent"]

REGISTRY: Final = CollectorRegistry(auto_describe=True)

# In seconds. Durations of calls and turns are evaluated as percentiles, which takes many buckets.
# Durations of statements only have to show outliers.
_CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STATEMENT_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10)
_TURN_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_METHOD = ("grpc_type", "grpc_service", "grpc_method")

# In the order of the column turns.usage.
TOKEN_KINDS = ("input", "output", "cached_input", "reasoning")

# A model's name comes from callers. Beyond this number, names are counted as "other".
MAX_MODELS = 50


def _counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, labels: tuple[str, ...] = (), *, mode: Mode = "livesum") -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY, multiprocess_mode=mode)


def _histogram(
    name: str, text: str, labels: tuple[str, ...] = (), *, buckets: tuple[float, ...]
) -> Histogram:
    return Histogram(name, text, labels, registry=REGISTRY, buckets=buckets)


# Calls. The names are those of go-grpc-middleware, for which there are dashboards.
STARTED = _counter("grpc_server_started_total", "Calls that have begun.", _METHOD)
HANDLED = _counter("grpc_server_handled_total", "Calls that have ended.", (*_METHOD, "grpc_code"))
HANDLING = _histogram(
    "grpc_server_handling_seconds", "Duration of calls.", _METHOD, buckets=_CALL_BUCKETS
)
RECEIVED = _counter("grpc_server_msg_received_total", "Messages received in calls.", _METHOD)
SENT = _counter("grpc_server_msg_sent_total", "Messages sent in calls.", _METHOD)
FAULTS = _counter("sessiond_faults_total", "Calls refused, by ErrorReason.", ("reason",))
LIMIT_REFUSALS = _counter(
    "sessiond_limit_refusals_total",
    "Calls refused because of a limit of their project.",
    ("limit",),
)
CALLS_IN_PROGRESS = _gauge(
    "sessiond_calls_in_progress",
    "Calls in progress: calls are unary calls, reads and uploads; streams are Watch and Send.",
    ("kind",),
)

# Appends
MESSAGES_STORED = _counter("sessiond_messages_stored_total", "Messages stored.")
BYTES_STORED = _counter("sessiond_messages_bytes_total", "Bytes of the messages stored.")
APPEND_SIZE = _histogram(
    "sessiond_append_batch_size",
    "Messages of an append.",
    buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 10_000),
)
COPIES = _counter("sessiond_copies_total", "Copies of sessions made.")
IMPORTS_RUNNING = _gauge("sessiond_imports_running", "ImportMessages and ImportSession calls.")

# The database
STATEMENT = _histogram(
    "sessiond_db_statement_seconds",
    "Duration of statements, by name.",
    ("statement",),
    buckets=_STATEMENT_BUCKETS,
)
POOL_SIZE = _gauge("sessiond_db_pool_size", "Open connections of the pool.")
POOL_MAX = _gauge("sessiond_db_pool_max_size", "Maximum number of connections of the pool.")
POOL_IN_USE = _gauge("sessiond_db_pool_in_use", "Connections of the pool in use.")
POOL_WAITING = _gauge("sessiond_db_pool_waiting", "Callers that wait for a connection.")
POOL_WAIT = _counter(
    "sessiond_db_pool_wait_seconds_total", "Time that callers have waited for a connection."
)
POOL_ERRORS = _counter(
    "sessiond_db_pool_errors_total", "Callers that got no connection within the timeout."
)
READY = _gauge("sessiond_ready", "1 while the process reports SERVING.")

# Reads and watchers
CACHE_HITS = _counter("sessiond_page_cache_hits_total", "Pages found in the page cache.")
CACHE_MISSES = _counter("sessiond_page_cache_misses_total", "Pages not found in the page cache.")
CACHE_BYTES = _gauge("sessiond_page_cache_bytes", "Size of the page cache.")
WATCHERS = _gauge("sessiond_watchers", "Watchers of sessions and projects.")
WATCHED_SESSIONS = _gauge("sessiond_watched_sessions", "Sessions with watchers.")
TOO_SLOW = _counter("sessiond_watcher_too_slow_total", "Watchers ended as WATCHER_TOO_SLOW.")
LISTENING = _gauge(
    "sessiond_notice_listeners", "Processes that listen for the notifications of other processes."
)
NOTICE_LAG = _histogram(
    "sessiond_notice_lag_seconds",
    "Time from sending a notification to receiving it in another process.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)

# Turns
TURNS_RUNNING = _gauge("sessiond_turns_running", "Turns that run.")
TURNS_QUEUED = _gauge(
    "sessiond_turns_queued", "Turns that are queued, in the database.", mode="livemostrecent"
)
TURNS_ENDED = _counter(
    "sessiond_turns_ended_total", "Turns that have ended.", ("model", "state", "reason")
)
TURN_SECONDS = _histogram(
    "sessiond_turn_seconds", "Duration of turns that ran.", ("model", "state"),
    buckets=_TURN_BUCKETS,
)  # fmt: skip
TOKENS = _counter("sessiond_model_tokens_total", "Tokens that models reported.", ("model", "kind"))
FIRST_TOKEN = _histogram(
    "sessiond_model_first_token_seconds",
    "Time from calling a model to its first piece of text.",
    ("model",),
    buckets=_TURN_BUCKETS,
)
TURNS_LOST = _counter("sessiond_turns_lost_total", "Turns that ended as TURN_LOST.")

# Backlogs of background work in the database. Every process reports the same values.
QUEUE_PENDING = _gauge(
    "sessiond_queue_pending",
    "Sessions with messages for a queue, in all projects.",
    ("queue",),
    mode="livemostrecent",
)
QUEUE_FAILED = _gauge(
    "sessiond_queue_failed",
    "Messages of a queue that have failed for good, in all projects.",
    ("queue",),
    mode="livemostrecent",
)
QUEUE_OLDEST = _gauge(
    "sessiond_queue_oldest_seconds",
    "Time for which the oldest session of a queue has been ready.",
    ("queue",),
    mode="livemostrecent",
)
PURGE_LOGS = _gauge(
    "sessiond_purge_backlog_logs", "Logs that wait for the purger.", mode="livemostrecent"
)
PURGE_OLDEST = _gauge(
    "sessiond_purge_oldest_seconds",
    "Time for which the oldest log has waited for the purger.",
    mode="livemostrecent",
)
PURGED_ROWS = _counter("sessiond_purged_total", "Rows that the purger removed, by kind.", ("what",))
LOOSE_OBJECTS = _gauge(
    "sessiond_loose_objects",
    "Objects of the asset store that are due for removal.",
    mode="livemostrecent",
)
EXPIRED_WAITING = _gauge(
    "sessiond_expired_waiting", "Expired sessions not yet removed.", mode="livemostrecent"
)
LOOP_FAILURES = _counter(
    "sessiond_background_failures_total", "Failures of background loops.", ("loop",)
)

# The process
LOOP_LAG = _histogram(
    "sessiond_event_loop_lag_seconds",
    "Delay of callbacks that the event loop has to run.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
HEARTBEAT = _gauge(
    "sessiond_heartbeat_timestamp_seconds",
    "Time when the event loop last ran, in seconds since 1970; of all workers, the oldest time.",
    mode="livemin",
)
RESIDENT = _gauge("sessiond_resident_memory_bytes", "Resident memory.")
CPU = _counter("sessiond_cpu_seconds_total", "CPU time, user and system.")
OPEN_FILES = _gauge("sessiond_open_files", "Open file descriptors.")
DISK_FREE = _gauge(
    "sessiond_disk_free_bytes",
    "Free space of a file system that the server uses.",
    ("what",),
    mode="livemostrecent",
)
DISK_SIZE = _gauge(
    "sessiond_disk_size_bytes",
    "Size of a file system that the server uses.",
    ("what",),
    mode="livemostrecent",
)
BUILD = _gauge("sessiond_build_info", "Always 1.", ("version", "python"), mode="livemax")
MIGRATION = _gauge(
    "sessiond_migration_version", "Revision of the database's schema.", mode="livemostrecent"
)
CERTIFICATE = _gauge(
    "sessiond_tls_certificate_expiry_seconds",
    "Time until a TLS certificate expires.",
    ("file",),
    mode="livemin",
)

_pending: defaultdict[Counter, float] = defaultdict(float)
_models: set[str] = set()


def count(counter: Counter, amount: float = 1) -> None:
    """Add to a counter, or to one child of it, at the next `flush`.

    An addition to a dict takes a tenth of the time of Counter.inc, which locks and may write to a
    file.
    """
    _pending[counter] += amount


class Tally:
    """Collects values for a histogram, or for one child of it, until the next `flush`.

    Collecting a value takes a tenth of the time of Histogram.observe.
    """

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        """Create an empty tally, which is kept until the end of the process.

        Args:
            histogram: a histogram without labels, or the child for some labels.
        """
        self._histogram = histogram
        self._bounds: Sequence[float] = histogram._upper_bounds
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        _tallies.append(self)

    def observe(self, value: float) -> None:
        """Add a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def flush(self) -> None:
        """Add the collected values to the histogram."""
        if not any(self._counts):
            return
        counts, self._counts = self._counts, [0] * len(self._bounds)
        total, self._sum = self._sum, 0.0
        for bucket, added in zip(self._histogram._buckets, counts, strict=True):
            if added:
                bucket.inc(added)
        self._histogram._sum.inc(total)


_tallies: list[Tally] = []
_sizes = Tally(APPEND_SIZE)


@cache
def statement(name: str) -> Tally:
    """Return the tally of the durations of a statement. Unit: seconds."""
    return Tally(STATEMENT.labels(name))


def stored(messages: int, content_bytes: int) -> None:
    """Count an append that was committed."""
    count(MESSAGES_STORED, messages)
    count(BYTES_STORED, content_bytes)
    _sizes.observe(messages)


def flush() -> None:
    """Add the values of `count` and the tallies. Called before a scrape, and every second."""
    for counter, amount in _pending.items():
        counter.inc(amount)
    _pending.clear()
    for tally in _tallies:
        tally.flush()


def model_label(model: str) -> str:
    """Return a model's name as a label: the first MAX_MODELS names, then "other"."""
    if model not in _models:
        if len(_models) >= MAX_MODELS:
            return "other"
        _models.add(model)
    return model
