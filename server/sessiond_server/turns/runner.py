"""Running turns. What keeps a turn this process's own, and what becomes of those that others have left, stands in turn_leases.

A turn is asked, answered and ended here. What changes in the database, changes under the session's row (turns/store.py); no connection is
held while a model works. Whoever ends a turn also starts the next one, in the same transaction, so a queue never stands still while a
server is there.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import Message
from sessiond.v1.turn_pb2 import MessageTurn, Usage
from sessiond_server.assets.service import Assets, asset_not_found
from sessiond_server.assets.store.assets import AssetMissing
from sessiond_server.assets.store.objects import ObjectStoreUnavailable
from sessiond_server.core import events
from sessiond_server.core.cancellation import cancel_all
from sessiond_server.core.errors import Fault
from sessiond_server.core.events import DELTA_CONTENT, Event, EventPublisher
from sessiond_server.core.limits import Limits
from sessiond_server.core.pg_time import now_us
from sessiond_server.core.states import SessionState
from sessiond_server.db.idempotency import RequestRecord
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.formats.files import MAGIC_BYTES, media_type_of
from sessiond_server.formats.wire import AssetInfo, replace_surrogates
from sessiond_server.messages.append import Target, append_of
from sessiond_server.messages.store.append import Appended
from sessiond_server.messages.store.history import HistoryStore
from sessiond_server.messages.token_counts import Tokenizer
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.providers.base import Answer, Delta, ModelFault, ModelRequest, Route
from sessiond_server.sessions.store.lock import Change, SessionMissing
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.turns.context import HistoryRequest, history_of, policy_of
from sessiond_server.turns.errors import (
    aborted,
    error_of,
    fault_of_model,
    internal_error,
    printable,
)
from sessiond_server.turns.store import (
    ABORTED,
    COMPLETED,
    FAILED,
    RUNNING,
    Ending,
    StartFailed,
    TurnRow,
    TurnStore,
    Waiting,
)

FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 2.0
DATABASE_RETRY_S = 0.5
CLOSE_TIMEOUT_S = 5.0

STATE_NAMES: Mapping[int, str] = {COMPLETED: "completed", FAILED: "failed", ABORTED: "aborted"}

log = structlog.get_logger(__name__)


class Router(Protocol):
    """Finds who answers for a model."""

    def route(self, name: str) -> Route:
        """Raises: ModelFault MODEL_NOT_CONFIGURED."""


@dataclass(frozen=True, slots=True)
class Lease:
    """holder: stands for this process. duration_s: how long after its last sign of life a process counts as gone."""

    holder: UUID
    duration_s: float


@dataclass(frozen=True, slots=True)
class StartedTurn:
    """A turn that has just become the running one of its session, with this process.

    end_seq: the last message that it appended, 0 where there is none. after_seq: the same, or the session's end.
    """

    key: UUID
    log: UUID
    project_id: UUID
    session_id: str
    turn_id: UUID
    model: str
    options: Mapping[str, Any]
    timeout_ms: int
    end_seq: int
    after_seq: int


@dataclass(slots=True)
class TurnChanges:
    """What a transaction has done to a session's turns, to be told once it is committed.

    ended: turns that are over. started: the one that runs now. is_idle: nothing runs or waits. settled: the one that this process has run
    to its end.
    """

    ended: list[TurnRow] = field(default_factory=list)
    started: StartedTurn | None = None
    is_idle: bool = False
    has_appended: bool = False
    settled: UUID | None = None


@dataclass(slots=True)
class RunningTurn:
    """A turn that this process runs.

    is_over: it was ended by somebody else, or must be given up (then why says so). end_seq: the last that it appended; after_seq: the same,
    or the session's end where it has not appended anything. half: the first half of a character whose second one comes with the next delta.
    """

    started: StartedTurn
    after_seq: int
    end_seq: int
    half: str = ""
    began: float = field(default_factory=time.monotonic)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    why: Fault | None = None
    usage: Usage | None = None

    @property
    def timeout_s(self) -> float:
        return self.started.timeout_ms / 1000

    @property
    def remaining_s(self) -> float:
        return self.began + self.timeout_s - time.monotonic()


class TurnRunner:
    """The turns that this process runs.

    Args:
        is_draining: once it says so, no turn is started any more: what waits is left to other servers.
        lease: under which it starts turns.
        max_context_bytes: of a history that a model is given.
        max_request_bytes: of a request to a model, assets included.
    """

    def __init__(
        self,
        store: TurnStore,
        sessions: SessionStore,
        history: HistoryStore,
        models: Router,
        assets: Assets,
        publisher: EventPublisher,
        limits: Limits,
        tokenizer: Tokenizer,
        *,
        is_draining: Callable[[], bool],
        lease: Lease,
        max_context_bytes: int,
        max_request_bytes: int,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._history = history
        self._models = models
        self._assets = assets
        self._publisher = publisher
        self._limits = limits
        self._tokenizer = tokenizer
        self._is_draining = is_draining
        self._lease = lease
        self._max_context_bytes = max_context_bytes
        self._max_request_bytes = max_request_bytes
        self._running: dict[UUID, RunningTurn] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    # What others call.

    @asynccontextmanager
    async def change(
        self, key: UUID, project_id: UUID, session_id: str, record: RequestRecord | None = None
    ) -> AsyncIterator[tuple[Change, TurnChanges]]:
        """Change a session's turns: a transaction, after whose commit what it did is told, and what it started is run.

        Raises: SessionMissing, DuplicateRequest.
        """
        changes = TurnChanges()
        with ExitStack() as telling:
            async with self._store.change(key, project_id, record) as change:
                # Only now: whoever waits for the session's row holds nobody up.
                telling.enter_context(self._publisher.hold_delivery(key))
                yield change, changes
            self._go_on(change, project_id, session_id, changes)

    async def start_next(
        self, change: Change, project_id: UUID, session_id: str, changes: TurnChanges
    ) -> None:
        """Make the next turn that waits the running one, where none is running."""
        if change.state == SessionState.DESTROYED:
            for turn_id in await self._store.waiting(change):
                await self.end(
                    change,
                    turn_id,
                    Ending(
                        ABORTED, error=aborted("the session was destroyed", session_id, turn_id)
                    ),
                    changes,
                )
        if self._is_draining() or self._is_closing:
            changes.is_idle = not await self._store.waiting(change)
            return
        while waiting := await self._store.next(change):
            try:
                # A turn that cannot start must not undo the end of the one before it.
                async with self._store.savepoint(change):
                    changes.started = await self._start(change, project_id, session_id, waiting)
            except (Fault, StartFailed) as e:
                if isinstance(e, StartFailed):
                    log.error(
                        "turn_start_failed", turn_id=str(waiting.turn_id), exc_info=e.__cause__
                    )
                fault = e if isinstance(e, Fault) else internal_error(waiting.turn_id)
                error = error_of(fault, session_id, waiting.turn_id)
                await self.end(change, waiting.turn_id, Ending(FAILED, error=error), changes)
                continue
            changes.has_appended |= changes.started.end_seq > 0
            return
        changes.is_idle = True

    async def _start(
        self, change: Change, project_id: UUID, session_id: str, waiting: Waiting
    ) -> StartedTurn:
        row, options = await self._store.start(
            change, waiting.turn_id, self._lease.holder, self._lease.duration_s
        )
        messages = SendRequest.FromString(waiting.prompt).messages
        end_seq = 0
        if messages:
            appended = await self._append(change, project_id, session_id, row.turn_id, messages)
            end_seq = appended.last_seq
        return StartedTurn(
            change.key,
            change.log,
            project_id,
            session_id,
            row.turn_id,
            row.model,
            options,
            row.timeout_ms,
            end_seq,
            end_seq or (await self._store.open(change)).last_seq,
        )

    async def end(
        self, change: Change, turn_id: UUID, ending: Ending, changes: TurnChanges
    ) -> TurnRow | None:
        """End a turn. None: it is over already."""
        row = await self._store.end(change, turn_id, ending)
        if row:
            changes.ended.append(row)
        return row

    def runs(self, turn_id: UUID) -> bool:
        """Whether this process runs the turn."""
        return turn_id in self._running

    def running(self) -> list[tuple[UUID, UUID]]:
        """(session's key, turn_id) of each turn that this process runs."""
        return [(running.started.key, turn_id) for turn_id, running in self._running.items()]

    def heard(self, event: Event) -> None:
        """Something happened to a session, here or elsewhere: it may be the end of a turn that runs here."""
        if event.type == events.TURN_END and event.data:
            with suppress(ValueError):
                self.cancel(UUID(event.data["turn_id"]))
        elif event.type in (events.DELETED, events.EXPIRED):
            for running in self._running.values():
                if running.started.log == event.log:
                    running.is_over.set()

    def cancel(self, turn_id: UUID) -> None:
        """Stop a turn that somebody else has ended, where it runs here."""
        if running := self._running.get(turn_id):
            running.is_over.set()

    async def drain(self, timeout_s: float) -> None:
        """Let the turns that run come to their end, for so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    async def close(self) -> None:
        """Give up what still runs."""
        self._is_closing = True
        for running in self._running.values():
            running.why = Fault("TURN_LOST", "the server that ran the turn was shut down")
            running.is_over.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT_S)
        await cancel_all(self._tasks)

    # A turn's way.

    def _go_on(
        self, change: Change, project_id: UUID, session_id: str, changes: TurnChanges
    ) -> None:
        """Tell what was done, and run what was started. After the commit."""
        if changes.settled:
            self._running.pop(changes.settled, None)
        self._tell_ended(change, project_id, session_id, changes)
        if changes.started and changes.started.turn_id not in self._running:
            self._begin(changes.started)

    def _begin(self, started: StartedTurn) -> None:
        running = self._running[started.turn_id] = RunningTurn(
            started, started.after_seq, started.end_seq
        )
        self._tell(running, events.TURN_START, {"model": started.model})
        task = asyncio.create_task(self._run(running))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, running: RunningTurn) -> None:
        started = running.started
        try:
            while not running.is_over.is_set():
                try:
                    outcome: Answer | Fault = await self._ask(running)
                except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                    # Before the model was asked: that can wait.
                    log.debug(
                        "a turn waits for the database", turn_id=str(started.turn_id), error=str(e)
                    )
                    await asyncio.sleep(DATABASE_RETRY_S)
                    continue
                except Fault as fault:
                    outcome = fault
                except ObjectStoreUnavailable:
                    outcome = Fault(
                        "ASSET_STORE_UNAVAILABLE",
                        "the store of the assets' content does not answer",
                    )
                except ModelFault as fault:
                    outcome = fault_of_model(fault)
                except Exception:
                    log.exception(
                        "turn failed by a fault of the server", turn_id=str(started.turn_id)
                    )
                    outcome = internal_error(started.turn_id)
                if running.is_over.is_set():
                    break
                if not await self._settle(running, outcome):
                    return
            if running.why:
                await self._settle(running, running.why)
        finally:
            self._running.pop(started.turn_id, None)

    async def _ask(self, running: RunningTurn) -> Answer:
        """Ask the model once. Returns, or raises, also when the turn is over.

        Raises: ModelFault; Fault TURN_TIMED_OUT, and those of history_of.
        """
        asking = asyncio.create_task(self._answer(running))
        over = asyncio.create_task(running.is_over.wait())
        try:
            await asyncio.wait(
                (asking, over),
                timeout=max(running.remaining_s, 0),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if asking.done():
                return asking.result()
            raise Fault(
                "TURN_TIMED_OUT",
                f"the turn took longer than {running.timeout_s:g} seconds",
                metadata={"timeout_s": f"{running.timeout_s:g}"},
            )
        finally:
            for task in (asking, over):
                if not task.done():
                    await cancel_all([task])  # type: ignore[list-item]

    async def _answer(self, running: RunningTurn) -> Answer:
        started = running.started
        row = await self._sessions.get(started.key, started.project_id)
        policy = policy_of(row.config if row else {})
        wanted = HistoryRequest(
            started.key,
            started.project_id,
            started.session_id,
            started.log,
            self._max_context_bytes,
        )
        messages = await history_of(self._history, wanted, policy)
        route = self._models.route(started.model)

        question = ModelRequest(
            model=route.model,
            messages=messages,
            system_prompt=policy.system_prompt,
            options={**policy.model_options, **started.options},
            describe_assets=partial(self._describe_assets, started.project_id),
            load_asset=partial(self._load_asset, started.project_id),
            max_request_bytes=self._max_request_bytes,
        )
        async with aclosing(route.provider.stream(question)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):
                    return piece
                self._tell_delta(running, piece)
        raise ModelFault(
            "MODEL_ANSWER_INVALID",
            "the model's answer has no end",
            metadata={"model": started.model},
        )

    async def _describe_assets(
        self, project_id: UUID, asset_ids: Sequence[str]
    ) -> Mapping[str, AssetInfo]:
        """Describe the assets that exist, those of unknown type by their first bytes."""
        described: dict[str, AssetInfo] = {}
        for asset_id in asset_ids:
            try:
                row = await self._assets.get(project_id, asset_id)
                media_type = row.media_type
                if media_type in ("", "application/octet-stream"):
                    _, pieces = await self._assets.download(project_id, asset_id, 0, MAGIC_BYTES)
                    async with aclosing(pieces):
                        first = b"".join([piece async for piece in pieces])
                    media_type = media_type_of(first, media_type)
            except Fault as fault:
                if fault.reason != "ASSET_NOT_FOUND":
                    raise
                continue
            described[asset_id] = AssetInfo(media_type, row.size)
        return described

    async def _load_asset(self, project_id: UUID, asset_id: str) -> AsyncGenerator[bytes, None]:
        _, pieces = await self._assets.download(project_id, asset_id, 0, 0)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _settle(self, running: RunningTurn, outcome: Answer | Fault) -> bool:
        """Write what came of a call of the model, as often as it takes.

        The model's work is done and paid for, so the turn stays this process's, and the model is
        not asked again. An answer that cannot be stored for an unforeseen reason is given up: from
        then on, what is written is that the turn failed.

        Returns:
            Whether the turn goes on, because messages were sent to steer it.
        """
        turn_id = running.started.turn_id
        delay_s = FIRST_RETRY_S
        while True:
            try:
                return await self._try_to_settle(running, outcome)
            except (DatabaseUnavailable, PoolExhausted, Contention) as e:
                log.warning("turn_end_retrying", turn_id=str(turn_id), error=str(e))
            except Exception:
                log.exception("turn_end_failed", turn_id=str(turn_id))
                outcome = internal_error(turn_id)
            if self._is_closing:
                return False
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_RETRY_S)

    async def _try_to_settle(self, running: RunningTurn, outcome: Answer | Fault) -> bool:
        started, resume_seq = running.started, 0
        usage = _sum(running.usage, outcome.usage if isinstance(outcome, Answer) else None)
        try:
            async with self.change(started.key, started.project_id, started.session_id) as (
                change,
                changes,
            ):
                held = (
                    await self._store.find(change, started.turn_id)
                    if change.log == started.log
                    else None
                )
                if held is None:
                    return False
                if held.turn.state != RUNNING:
                    # Another server ended it and published the end. Only this one completes it:
                    # an earlier commit succeeded then, and nobody published it yet.
                    if held.turn.state == COMPLETED:
                        changes.ended.append(held.turn)
                        changes.has_appended = True
                elif held.turn.end_seq > running.end_seq:
                    # It went on the time before.
                    resume_seq = held.turn.end_seq
                    changes.has_appended = True
                else:
                    resume_seq = await self._settle_locked(change, running, outcome, usage, changes)
                changes.settled = None if resume_seq else started.turn_id
        except SessionMissing:
            return False
        if resume_seq:
            running.usage = usage
            running.end_seq = running.after_seq = resume_seq
        return resume_seq > 0

    async def _settle_locked(
        self,
        change: Change,
        running: RunningTurn,
        outcome: Answer | Fault,
        usage: Usage | None,
        changes: TurnChanges,
    ) -> int:
        """Answers the seq after which the turn goes on. 0 = it is over."""
        started, resume_seq = running.started, 0
        if change.state == SessionState.DESTROYED:
            outcome = Fault("TURN_ABORTED", "the session was destroyed")
        fault: Fault | None
        if isinstance(outcome, Answer):
            fault, resume_seq = await self._take(change, running, outcome, usage, changes)
        else:
            fault = outcome
        if fault:
            state = ABORTED if fault.reason == "TURN_ABORTED" else FAILED
            error = error_of(fault, started.session_id, started.turn_id)
            await self.end(
                change, started.turn_id, Ending(state, usage=_counts(usage), error=error), changes
            )
        if not resume_seq:
            await self.start_next(change, started.project_id, started.session_id, changes)
        return resume_seq

    async def _take(
        self,
        change: Change,
        running: RunningTurn,
        answer: Answer,
        usage: Usage | None,
        changes: TurnChanges,
    ) -> tuple[Fault | None, int]:
        """Append an answer, and either what was sent to steer the turn, or its end. Answers a fault, and as _settle_locked."""
        started = running.started
        route = self._models.route(started.model)
        origin = MessageTurn(
            turn_id=str(started.turn_id),
            model=printable(answer.model),
            provider=route.provider.name,
            stop_reason=printable(answer.stop_reason),
            usage=answer.usage,
        )
        messages = [
            Message(format=route.provider.format, json=json, turn=origin)
            for json in answer.messages
        ]
        # The usage is that of the whole answer.
        for message in messages[:-1]:
            message.turn.ClearField("usage")
        try:
            appended = await self._append(
                change,
                started.project_id,
                started.session_id,
                started.turn_id,
                messages,
                is_answer=True,
            )
        except Fault as fault:
            about = {"model": started.model, "provider": route.provider.name}
            return Fault(
                "MODEL_ANSWER_INVALID",
                f"the model's answer cannot be stored: {fault.message}",
                metadata=about,
            ), 0
        changes.has_appended = True
        last, resume_seq = appended.last_seq, 0
        for steering in await self._store.steering(change, started.turn_id):
            prompt = SendRequest.FromString(steering.prompt).messages
            try:
                # Its messages say that they belong to a turn of their own, which it now is not.
                for sent in prompt:
                    sent.turn.turn_id = str(started.turn_id)
                appended = await self._append(
                    change, started.project_id, started.session_id, started.turn_id, prompt
                )
            except Fault as fault:
                error = error_of(fault, started.session_id, steering.turn_id)
                await self.end(change, steering.turn_id, Ending(FAILED, error=error), changes)
                continue
            await self._store.join(change, steering.turn_id, started.turn_id, appended)
            resume_seq = appended.last_seq
        if resume_seq:
            return None, resume_seq
        ending = Ending(COMPLETED, last, last, printable(answer.stop_reason), _counts(usage))
        await self.end(change, started.turn_id, ending, changes)
        return None, 0

    async def _append(
        self,
        change: Change,
        project_id: UUID,
        session_id: str,
        turn_id: UUID,
        messages: Sequence[Message],
        *,
        is_answer: bool = False,
    ) -> Appended:
        """Append messages of the running turn. Raises: Fault, with the reasons of StoreMessages."""
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        rows = validator.encode(messages)
        append = append_of(Target(project_id, session_id, None, ""), validator)
        while True:
            try:
                appended = await self._store.append(change, turn_id, append, rows)
                break
            except AssetMissing as e:
                if not is_answer:
                    raise asset_not_found(
                        e.sha256.hex(), validator.asset_fields[e.sha256]
                    ) from None
                # A model may write what looks like a reference.
                refs = tuple(ref for ref in append.asset_refs if ref[1] != e.sha256)
                append = replace(
                    append,
                    asset_refs=refs,
                    assets=tuple(sha256 for sha256 in append.assets if sha256 != e.sha256),
                )
        if appended is None:
            raise Fault(
                "PARENT_NOT_FOUND",
                "a parent_seq names no message before it",
                metadata={"session_id": session_id},
            )
        return appended

    # What is told.

    def _tell_ended(
        self, change: Change, project_id: UUID, session_id: str, changes: TurnChanges
    ) -> None:
        if changes.has_appended:
            self._publisher.messages_appended(change.key)

        def tell(type_: str, row: TurnRow, data: Mapping[str, Any]) -> None:
            after_seq = row.end_seq or None
            data = {"turn_id": str(row.turn_id), **data}
            self._publisher.publish(
                Event(type_, project_id, session_id, change.log, now_us(), after_seq, data)
            )

        for row in changes.ended:
            if row.error:
                log.info(
                    "turn ended without an answer",
                    turn_id=str(row.turn_id),
                    reason=row.error["reason"],
                    error=row.error["message"][:500],
                )
            if row.state == FAILED and row.error:
                tell(events.ERROR, row, row.error)
            tell(
                events.TURN_END,
                row,
                {"state": STATE_NAMES[row.state], "stop_reason": row.stop_reason},
            )
        if changes.is_idle and changes.ended:
            tell(events.IDLE, changes.ended[-1], {})

    def _tell_delta(self, running: RunningTurn, delta: Delta) -> None:
        text, running.half = running.half + delta.text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, running.half = text[:-1], text[-1]
        if text:
            type_ = events.REASONING_DELTA if delta.is_reasoning else events.MESSAGE_DELTA
            self._tell(running, type_, {DELTA_CONTENT: replace_surrogates(text)})

    def _tell(self, running: RunningTurn, type_: str, data: Mapping[str, Any]) -> None:
        started = running.started
        data = {"turn_id": str(started.turn_id), **data}
        self._publisher.publish(
            Event(
                type_,
                started.project_id,
                started.session_id,
                started.log,
                now_us(),
                running.after_seq,
                data,
            )
        )


def _sum(before: Usage | None, more: Usage | None) -> Usage | None:
    if before is None or more is None:
        return before or more
    return Usage(
        input_tokens=before.input_tokens + more.input_tokens,
        output_tokens=before.output_tokens + more.output_tokens,
        cached_input_tokens=before.cached_input_tokens + more.cached_input_tokens,
        reasoning_tokens=before.reasoning_tokens + more.reasoning_tokens,
    )


def _counts(usage: Usage | None) -> list[int] | None:
    if usage is None:
        return None
    return [
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.reasoning_tokens,
    ]
