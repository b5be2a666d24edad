"""Previews of turns: the requests that turns would send to their models."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sessiond.v1.conversation_service_pb2 import SendRequest
from sessiond.v1.message_pb2 import Message
from sessiond_server.core.errors import session_not_found
from sessiond_server.core.ids import session_key, uuid7
from sessiond_server.core.json_text import parse_options
from sessiond_server.core.limits import Limits
from sessiond_server.core.validation import check_session_id
from sessiond_server.formats.report import Report
from sessiond_server.formats.token_counts import Tokenizer
from sessiond_server.messages.validation import MessageValidator
from sessiond_server.providers.base import ModelFault, ModelRequest
from sessiond_server.providers.routing import Models
from sessiond_server.sessions.store.sessions import SessionStore
from sessiond_server.turns.errors import check_readable, fault_of_model, parent_not_found
from sessiond_server.turns.new_turns import NewTurns
from sessiond_server.turns.requests.asset_files import AssetFiles
from sessiond_server.turns.requests.context import ContextRequest, Contexts, policy_of
from sessiond_server.turns.sending import Sending

MAX_TEXT_BYTES = 2 * 1024 * 1024
"""Maximum size of the text of a request in a preview."""


@dataclass(frozen=True, slots=True)
class TurnPreview:
    """The request that a turn would send to its model.

    Attributes:
        model: the name that the provider uses.
        provider: name of the provider.
        request_json: the body of the request; "" if it has more than MAX_TEXT_BYTES.
        request_bytes: the size of the body with the contents of its assets.
        seqs: seqs of the stored messages that the request is made of.
        report: content that the request lacks, or contains in another form.
    """

    model: str
    provider: str
    request_json: str
    request_bytes: int
    seqs: Sequence[int]
    report: Report


class Previews:
    """Makes the requests that turns would send to their models.

    Args:
        max_request_bytes: the maximum size of a request to a model, assets included.
    """

    def __init__(
        self,
        new_turns: NewTurns,
        sessions: SessionStore,
        contexts: Contexts,
        models: Models,
        files: AssetFiles,
        limits: Limits,
        tokenizer: Tokenizer,
        *,
        max_request_bytes: int,
    ) -> None:
        self._new_turns = new_turns
        self._sessions = sessions
        self._contexts = contexts
        self._models = models
        self._files = files
        self._limits = limits
        self._tokenizer = tokenizer
        self._max_request_bytes = max_request_bytes

    async def preview(self, sending: Sending) -> TurnPreview:
        """Return the request that a Send would now make. Nothing is stored, and no model is called.

        Raises:
            Fault: with the reasons of PreviewTurn.
        """
        session_id, project_id = check_session_id(sending.session_id), sending.project_id
        key = session_key(project_id, session_id)
        session = await self._sessions.get(key, project_id)
        if session is None:
            raise session_not_found(session_id)
        turn = self._new_turns.turn(
            sending, uuid7(), session_model=session.model, config=session.config
        )
        if turn.parent_seq > session.last_seq:
            raise parent_not_found(session_id, turn.parent_seq, session.last_seq)
        messages = self._as_stored(SendRequest.FromString(turn.prompt).messages)
        # The parent of the first message determines the branch that the turn continues.
        parent_seq = messages[0].parent_seq if messages else turn.parent_seq
        policy = policy_of(session.config)
        wanted = ContextRequest(
            key, project_id, session_id, session.log, parent_seq, is_end=parent_seq > 0
        )
        context = await self._contexts.read(wanted, policy.limits, keeps_mark=False)
        seqs = [message.seq for message in context.messages]
        for seq, message in enumerate(messages, session.last_seq + 1):
            message.seq = seq
        given = [*context.messages, *messages]
        check_readable(given)
        try:
            route = self._models.route(turn.model)
            preview = await route.provider.preview(
                ModelRequest(
                    model=route.model,
                    messages=given,
                    system_prompt=policy.system_prompt,
                    options={
                        **policy.model_options,
                        **parse_options(sending.options_json, "options_json"),
                    },
                    describe_assets=partial(self._files.describe, project_id),
                    max_request_bytes=self._max_request_bytes,
                )
            )
        except ModelFault as fault:
            raise fault_of_model(fault) from None
        is_small = len(preview.text.encode()) <= MAX_TEXT_BYTES
        return TurnPreview(
            route.model,
            route.provider.name,
            preview.text if is_small else "",
            preview.size_bytes,
            seqs,
            preview.report,
        )

    def _as_stored(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages as they would be stored, with their roles."""
        validator = MessageValidator(self._limits, self._tokenizer, keep_turn=True)
        return [Message.FromString(body) for body in validator.encode(messages).bodies]
