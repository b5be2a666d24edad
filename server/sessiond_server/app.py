"""Wiring: creates each store and service of a process once, and closes them in the right order."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

import grpc

from sessiond_server.assets.service import Assets
from sessiond_server.assets.store.assets import AssetStore
from sessiond_server.assets.store.objects import Objects
from sessiond_server.assets.sweeper import Sweeper
from sessiond_server.bookmarks.service import Bookmarks
from sessiond_server.bookmarks.store import BookmarkStore
from sessiond_server.copies.flattening import Flattener
from sessiond_server.copies.service import Copies
from sessiond_server.copies.store.copies import CopyStore
from sessiond_server.copies.store.flattening import FlatteningStore
from sessiond_server.core.limits import Limits
from sessiond_server.core.supervision import Loop
from sessiond_server.db.pool import Database
from sessiond_server.embedded import embedded_directory
from sessiond_server.formats.token_counts import tokenizer
from sessiond_server.imports.export import SessionExports
from sessiond_server.imports.service import SessionImports
from sessiond_server.imports.store import SessionImportStore, SnapshotStore
from sessiond_server.messages.append import Appends
from sessiond_server.messages.batch_append import BatchAppender
from sessiond_server.messages.history import History
from sessiond_server.messages.joined_append import JoinedAppends
from sessiond_server.messages.store.append import AppendStore
from sessiond_server.messages.store.batch_append import BatchAppendStore
from sessiond_server.messages.store.cuts import CutStore
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.projects.authentication import Authenticator
from sessiond_server.projects.limits import LimitsOfProjects
from sessiond_server.projects.service import Keys
from sessiond_server.projects.store import KeyStore
from sessiond_server.providers.routing import Models
from sessiond_server.queues.service import Processing
from sessiond_server.queues.store.leases import LeaseStore
from sessiond_server.queues.store.progress import ProgressStore
from sessiond_server.queues.store.queues import QueueStore
from sessiond_server.quotas.service import Quotas
from sessiond_server.quotas.store import QuotaStore
from sessiond_server.retention.projects import ProjectPurger
from sessiond_server.retention.purger import Purger
from sessiond_server.retention.store.projects import ProjectPurgeStore
from sessiond_server.retention.store.purge import PurgeStore
from sessiond_server.rewinds.service import Rewinds
from sessiond_server.rewinds.store import RewindStore
from sessiond_server.rpc.admin_service import AdminServicer
from sessiond_server.rpc.admission import Admission
from sessiond_server.rpc.asset_service import AssetServicer
from sessiond_server.rpc.bookmark_service import BookmarkServicer
from sessiond_server.rpc.conversation_service import ConversationServicer
from sessiond_server.rpc.handlers import Calls, Servicer
from sessiond_server.rpc.lock_waits import LockWaits
from sessiond_server.rpc.processing_service import ProcessingServicer
from sessiond_server.rpc.services import SERVICES
from sessiond_server.rpc.session_service import SessionServicer
from sessiond_server.rpc.task_service import TaskServicer
from sessiond_server.sessions.bulk_deletion import BulkDeletions
from sessiond_server.sessions.locked import LockedSessions
from sessiond_server.sessions.service import Sessions
from sessiond_server.sessions.store.bulk_deletion import BulkDeletionStore
from sessiond_server.sessions.store.row_locks import RowLockStore
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.settings import Settings
from sessiond_server.tasks.service import Tasks
from sessiond_server.tasks.store import TaskStore
from sessiond_server.turns.announcements import TurnAnnouncements
from sessiond_server.turns.answers import Answers
from sessiond_server.turns.calls import ModelCalls
from sessiond_server.turns.changes.direct import DirectTurns
from sessiond_server.turns.changes.failures import DirectFailures
from sessiond_server.turns.changes.handover import Handovers
from sessiond_server.turns.changes.queueing import DirectQueue
from sessiond_server.turns.changes.transitions import TurnTransitions
from sessiond_server.turns.leases import TurnLeases
from sessiond_server.turns.new_turns import NewTurns
from sessiond_server.turns.requests.asset_files import AssetFiles
from sessiond_server.turns.requests.context import Contexts
from sessiond_server.turns.requests.previews import Previews
from sessiond_server.turns.requests.refusals import Refusals
from sessiond_server.turns.runner import TurnRunner
from sessiond_server.turns.service import Turns
from sessiond_server.turns.state import TurnLease, TurnSlots
from sessiond_server.turns.store.ends import EndStore
from sessiond_server.turns.store.joined_starts import JoinedStartStore
from sessiond_server.turns.store.leases import TurnLeaseStore
from sessiond_server.turns.store.marks import MarkStore
from sessiond_server.turns.store.openings import OpeningStore
from sessiond_server.turns.store.queue import TurnQueueStore
from sessiond_server.turns.store.starts import StartStore
from sessiond_server.turns.store.texts import TextStore
from sessiond_server.turns.store.turns import TurnStore
from sessiond_server.turns.streams import TurnStreams
from sessiond_server.turns.texts.live_texts import LiveTexts
from sessiond_server.turns.texts.text_saver import TextSaver
from sessiond_server.turns.waiting.lanes import TurnLanes
from sessiond_server.watch.hub import WatchHub
from sessiond_server.watch.store import WatchStore


class Stores:
    """All stores of a database."""

    def __init__(self, database: Database) -> None:
        self.append = AppendStore(database)
        self.assets = AssetStore(database)
        self.batch_append = BatchAppendStore(database)
        self.bookmarks = BookmarkStore(database)
        self.copies = CopyStore(database)
        self.cuts = CutStore(database)
        self.flattening = FlatteningStore(database)
        self.history = HistoryStore(database)
        self.imports = SessionImportStore(database)
        self.snapshots = SnapshotStore(database)
        self.keys = KeyStore(database)
        self.marks = MarkStore(database)
        self.purge = PurgeStore(database)
        self.project_purge = ProjectPurgeStore(database)
        self.queues = QueueStore(database)
        self.queue_leases = LeaseStore(database, self.queues)
        self.queue_progress = ProgressStore(database)
        self.quotas = QuotaStore(database)
        self.rewinds = RewindStore()
        self.row_locks = RowLockStore(database)
        self.bulk_deletions = BulkDeletionStore(database)
        self.sessions = SessionStore(database)
        self.tasks = TaskStore(database)
        self.turn_ends = EndStore(database)
        self.turn_leases = TurnLeaseStore(database)
        self.turn_openings = OpeningStore(database)
        self.turn_queues = TurnQueueStore(database)
        self.turn_starts = StartStore(database)
        self.joined_turn_starts = JoinedStartStore(database)
        self.turn_texts = TextStore(database)
        self.turns = TurnStore(database, self.append)
        self.watch = WatchStore(database)


@dataclass(frozen=True, slots=True)
class Services:
    """All parts of a process that serve calls or run in the background.

    Attributes:
        handlers: the gRPC handlers of every service.
        loops: the background loops by name. Each must be run until it is cancelled.
    """

    handlers: tuple[grpc.GenericRpcHandler, ...]
    loops: dict[str, Loop]
    database: Database
    objects: Objects
    watching: WatchHub
    runner: TurnRunner
    page_cache_bytes: Callable[[], int]
    models: Models


@asynccontextmanager
async def open_services(
    settings: Settings, database_url: str, admission: Admission
) -> AsyncIterator[Services]:
    """Open the services for the duration of the block, and close them in reverse order."""
    async with AsyncExitStack() as stack:
        database = Database(
            database_url,
            size=settings.pool_size,
            timeout_s=settings.pool_timeout_s,
            lock_timeout_s=settings.lock_timeout_s,
            has_session=settings.has_session,
            listen_url=settings.listen_database_url,
            directory=embedded_directory(settings.data_dir, database_url),
        )
        stack.push_async_callback(database.close)
        await database.open()
        stores, objects = Stores(database), Objects(settings.asset_location())
        limits, counts = _limits(settings), tokenizer(settings.tokenizer)
        quotas = Quotas(stores.quotas, settings.default_limits())
        stack.push_async_callback(quotas.close)

        def is_draining() -> bool:
            return admission.is_draining

        assets = Assets(stores.assets, objects, limits, quotas)
        stack.push_async_callback(assets.close)
        watching = WatchHub(
            stores.watch,
            stores.history,
            stores.cuts,
            admission.check_draining,
        )
        stack.push_async_callback(watching.close)
        models = Models(
            settings.providers,
            default_model=settings.default_model,
            echo_models=settings.echo_models,
        )
        stack.push_async_callback(models.close)
        models.prepare()
        lease = TurnLease(uuid4(), settings.turn_lease_s)
        slots = TurnSlots(settings.max_running_turns, is_draining=is_draining)
        transitions = TurnTransitions(
            stores.turns, stores.turn_texts, models, limits, counts, lease, slots
        )
        contexts = Contexts(stores.history, stores.marks, max_bytes=settings.max_context_bytes)
        handovers = Handovers(
            stores.turn_leases, stores.turns, stores.turn_texts, transitions, lease
        )
        announcements = TurnAnnouncements(watching, quotas)
        lanes = TurnLanes(settings.pool_size, settings.max_history_bytes)
        answers = Answers(models, limits, counts)
        direct = DirectTurns(
            *(stores.turn_starts, stores.joined_turn_starts, stores.turn_ends, lanes, answers),
            *(watching, lease, slots),
        )
        stack.push_async_callback(direct.close)
        queue = DirectQueue(stores.turn_queues, stores.turn_ends, answers, watching, lease, slots)
        files = AssetFiles(assets, max_request_bytes=settings.max_model_request_bytes)
        refusals = Refusals(models, max_context_bytes=settings.max_context_bytes)
        runner = TurnRunner(
            stores.turns,
            transitions,
            slots,
            watching,
            announcements,
            ModelCalls(
                *(stores.sessions, contexts, models, files, announcements, refusals, lanes),
                max_request_bytes=settings.max_model_request_bytes,
            ),
            handovers,
            direct,
            queue,
            DirectFailures(stores.turn_starts, stores.turn_ends, watching),
            refusals,
            lanes,
        )
        stack.push_async_callback(runner.close)
        watching.add_listener(runner.on_event)
        watching.add_listener(quotas.on_event)
        locked = LockedSessions(stores.row_locks)
        stack.push_async_callback(locked.close)
        new_turns = NewTurns(
            models,
            limits,
            counts,
            default_model=settings.default_model,
            max_timeout_ms=int(settings.turn_timeout_s * 1000),
            keep_partial=settings.keep_partial,
        )
        turns = Turns(
            stores.turns,
            stores.sessions,
            runner,
            transitions,
            contexts,
            new_turns,
            stores.turn_openings,
            queue,
            quotas,
            lanes,
            locked,
            save_remote_text=partial(watching.texts.saved, freeze=True),
        )
        stack.push_async_callback(turns.close)
        streams = TurnStreams(turns, runner, watching)
        previews = Previews(
            new_turns,
            stores.sessions,
            contexts,
            models,
            files,
            limits,
            counts,
            max_request_bytes=settings.max_model_request_bytes,
        )
        stack.push_async_callback(streams.close)
        history = History(stores.history, stores.cuts, stores.bookmarks, settings.page_cache_bytes)
        appends = Appends(stores.append, stores.sessions, locked, limits, counts, watching, quotas)
        joined_appends = JoinedAppends(
            stores.batch_append,
            appends,
            locked,
            limits,
            watching,
            quotas,
            max_statements=settings.pool_size // 2,
        )
        stack.push_async_callback(joined_appends.close)
        purger = Purger(
            stores.purge,
            Flattener(stores.flattening),
            watching,
            interval_s=settings.purge_interval_s,
            request_retention_s=settings.request_id_retention_s,
            projects=ProjectPurger(stores.project_purge, watching),
        )
        sweeper = Sweeper(
            stores.assets,
            objects,
            interval_s=settings.purge_interval_s,
            grace_s=settings.asset_grace_s,
        )
        leases = TurnLeases(
            *(stores.turns, stores.turn_leases, transitions, runner, lease, slots, handovers)
        )
        texts = TextSaver(stores.turn_texts, runner, lease)
        live_texts = LiveTexts(stores.turn_texts, runner, texts, announcements)
        stack.push_async_callback(live_texts.close)
        watching.texts.source = live_texts
        # The order is that of SERVICES.
        servicers: tuple[Servicer, ...] = (
            SessionServicer(
                Sessions(stores.sessions, limits, watching, turns.session_destroyed, quotas),
                BulkDeletions(stores.bulk_deletions, watching),
                Copies(
                    stores.copies, stores.sessions, settings.copy_max_messages, watching, quotas
                ),
                SessionImports(stores.imports, stores.sessions, limits, counts, watching, quotas),
                SessionExports(stores.snapshots, history),
                appends,
                joined_appends,
                BatchAppender(appends, joined_appends, quotas),
                history,
                Rewinds(
                    stores.rewinds,
                    stores.append,
                    stores.history,
                    appends,
                    runner,
                    transitions,
                    quotas,
                ),
                admission,
            ),
            TaskServicer(Tasks(stores.tasks)),
            BookmarkServicer(Bookmarks(stores.bookmarks)),
            ProcessingServicer(
                Processing(
                    stores.queues,
                    stores.queue_leases,
                    stores.queue_progress,
                    stores.sessions,
                    is_draining=is_draining,
                    default_deadline_s=settings.default_deadline_s,
                )
            ),
            AssetServicer(assets, admission),
            ConversationServicer(turns, streams, previews, watching),
            AdminServicer(Keys(stores.keys), LimitsOfProjects(stores.keys, stores.quotas, quotas)),
        )
        authenticator = Authenticator(
            stores.keys, quotas, require_keys=settings.require_keys, cache_s=settings.key_cache_s
        )
        calls = Calls(
            authenticator,
            admission,
            LockWaits(locked, database.refuse_waiting, settings.pool_size),
            quotas,
            check_messages=appends.invalid_fields,
            default_deadline_s=settings.default_deadline_s,
            stream_idle_timeout_s=settings.import_idle_timeout_s,
            log_calls=settings.log_calls,
        )
        yield Services(
            tuple(
                calls.handlers(service, servicer)
                for service, servicer in zip(SERVICES, servicers, strict=True)
            ),
            {
                "purger": purger.run,
                "sweeper": sweeper.run,
                "key_check": authenticator.run,
                "project_limits": quotas.run,
                "memory": admission.memory.run,
                "memory_limit": admission.memory.watch,
                **watching.loops(),
                **leases.loops(),
                **texts.loops(),
            },
            database,
            objects,
            watching,
            runner,
            history.cache_bytes,
            models,
        )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_message_bytes=settings.max_message_bytes,
        max_batch_messages=settings.max_batch_messages,
        max_batch_bytes=settings.max_batch_bytes,
        max_import_bytes=settings.max_import_bytes,
        max_asset_bytes=settings.max_asset_bytes,
        default_idle_ttl_ms=int(settings.default_idle_ttl_s * 1000) or None,
    )
