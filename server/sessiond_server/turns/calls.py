"""Calls the models of turns."""

import time
from contextlib import AsyncExitStack, aclosing
from functools import partial

import structlog

from sessiond_server.assets.store.objects import ObjectStoreUnavailable
from sessiond_server.core.errors import Fault
from sessiond_server.db.pool import Contention, DatabaseUnavailable, PoolExhausted
from sessiond_server.providers.base import Answer, ModelFault, ModelRequest, RequestTooLarge
from sessiond_server.providers.routing import Models
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.telemetry import metrics, tracing
from sessiond_server.turns.announcements import TurnAnnouncements
from sessiond_server.turns.answers import tokens_of
from sessiond_server.turns.errors import check_readable, fault_of_model, internal_error
from sessiond_server.turns.requests.asset_files import AssetFiles
from sessiond_server.turns.requests.context import (
    Context,
    ContextRequest,
    Contexts,
    Policy,
    policy_of,
)
from sessiond_server.turns.requests.refusals import Refusals
from sessiond_server.turns.state import RunningTurn
from sessiond_server.turns.texts.answer_text import AnswerText
from sessiond_server.turns.timeouts import in_time
from sessiond_server.turns.waiting.lanes import TurnLanes

log = structlog.get_logger(__name__)


class ModelCalls:
    """Calls models, and publishes what they write.

    Args:
        max_request_bytes: the maximum size of a request to a model, assets included.
    """

    def __init__(
        self,
        sessions: SessionStore,
        contexts: Contexts,
        models: Models,
        files: AssetFiles,
        announcements: TurnAnnouncements,
        refusals: Refusals,
        lanes: TurnLanes,
        *,
        max_request_bytes: int,
    ) -> None:
        self._sessions = sessions
        self._contexts = contexts
        self._models = models
        self._files = files
        self._announcements = announcements
        self._refusals = refusals
        self._lanes = lanes
        self._max_request_bytes = max_request_bytes

    async def outcome(self, running: RunningTurn) -> Answer | Fault:
        """Call the model once.

        Raises:
            DatabaseUnavailable, PoolExhausted, Contention: if one is raised before the call.
        """
        try:
            answer = await in_time(running, self._call(running))
        except (DatabaseUnavailable, PoolExhausted, Contention):
            raise
        except Fault as fault:
            return fault
        except ModelFault as fault:
            return fault_of_model(fault)
        except ObjectStoreUnavailable:
            return Fault(
                "ASSET_STORE_UNAVAILABLE", "the store of the assets' content does not answer"
            )
        except Exception:
            log.exception("turn_failed", turn_id=str(running.turn_id))
            return internal_error(running.turn_id)
        running.add_usage(answer.usage)
        return answer

    async def _call(self, running: RunningTurn) -> Answer:
        route = self._models.route(running.model)
        # The source describes the start of the turn, so it is valid only for the first call.
        source, running.source = running.source, None
        async with AsyncExitStack() as stack:
            policy, context = await self._read(running, stack)
            check_readable(context.messages)
            running.text = AnswerText()
            # Watchers tell by answered_seq whether a text is newer than the answers that they have.
            running.text.answered_seq = (
                running.after_seq if running.parent_seq else context.last_seq
            )
            request = ModelRequest(
                model=route.model,
                messages=context.messages,
                system_prompt=policy.system_prompt,
                options={**policy.model_options, **running.options},
                describe_assets=partial(self._files.describe, running.project_id),
                load_asset=partial(self._files.load, running.project_id),
                max_request_bytes=self._max_request_bytes,
                on_report=partial(setattr, running, "report"),
            )
            began = time.monotonic()
            span = stack.enter_context(tracing.model_span(route.provider.name, route.model))
            pieces = await stack.enter_async_context(aclosing(route.provider.stream(request)))
            try:
                async for piece in pieces:
                    if began:
                        model = metrics.model_label(running.model)
                        metrics.FIRST_TOKEN.labels(model).observe(time.monotonic() - began)
                        began = 0.0
                    if isinstance(piece, Answer):
                        if span:
                            span.answered(piece.model, piece.stop_reason, tokens_of(piece))
                        return piece
                    self._announcements.delta(running, piece)
            except RequestTooLarge as e:
                if source and not running.parent_seq:
                    self._refusals.remember(running, source, context, e)
                raise
        raise ModelFault(
            "MODEL_ANSWER_INVALID",
            "the model's answer has no end",
            metadata={"model": running.model},
        )

    async def _read(self, running: RunningTurn, stack: AsyncExitStack) -> tuple[Policy, Context]:
        """Read the model's input, and hold memory for it until the stack is closed."""
        async with AsyncExitStack() as lane:
            with running.waiting():
                await lane.enter_async_context(self._lanes.read(running.project_id))
            known, running.head = running.head, None
            policy, running.policy = running.policy, None
            if policy is None:
                row = await self._sessions.get(running.key, running.project_id)
                policy = policy_of(row.config if row else {})
            wanted = ContextRequest(
                running.key,
                running.project_id,
                running.session_id,
                running.log,
                running.parent_seq or running.after_seq,
                is_end=running.parent_seq > 0,
            )
            context = await self._contexts.read(wanted, policy.limits, known=known)
            size = sum(message.content_bytes for message in context.messages)
            # The lane limits the number of histories that wait for memory.
            with running.waiting():
                await stack.enter_async_context(self._lanes.histories.hold(size))
        return policy, context
