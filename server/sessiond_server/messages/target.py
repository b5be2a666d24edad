"""The session that an append is for, and the conditions of the append."""

from dataclasses import dataclass
from uuid import UUID

from sessiond_server.core.errors import invalid
from sessiond_server.core.ids import session_key
from sessiond_server.core.validation import check_request_id, check_session_id
from sessiond_server.sessions.settings import SessionSettings
from sessiond_server.sessions.store.state import NO_PATCH, StatePatch


@dataclass(slots=True)  # not frozen; see messages/store/append.py
class Target:
    """The session of an append, and conditions of the append. An object is never modified.

    Attributes:
        project_id: the caller's project.
        session_id: the session.
        expected_last_seq: the last_seq that the session must have; None = any.
        request_id: makes the append safe to repeat; "" = none.
        expected_epoch: the epoch that the session must have; None = any.
        skips_duplicates: whether to leave out messages whose message_id the session has, instead of
            refusing the append.
        create: settings with which to create the session if it does not exist; None = do not create
            it.
        state: change of the session's state, in the commit of the append.
        state_etag: the etag that the state must have before; "" = any.
    """

    project_id: UUID
    session_id: str
    expected_last_seq: int | None
    request_id: str
    expected_epoch: int | None = None
    skips_duplicates: bool = False
    create: SessionSettings | None = None
    state: StatePatch = NO_PATCH
    state_etag: str = ""

    @property
    def key(self) -> UUID:
        """The session's key."""
        return session_key(self.project_id, self.session_id)

    def check(self) -> None:
        """Check the fields' values.

        Raises:
            Fault: INVALID_FIELD if a value is invalid.
        """
        check_session_id(self.session_id)
        check_request_id(self.request_id)
        if self.expected_last_seq is not None and self.expected_last_seq < 0:
            raise invalid("expected_last_seq", "is negative; 0 = an empty session")
        if self.expected_epoch is not None and self.expected_epoch < 0:
            raise invalid("expected_epoch", "is negative; 0 = a session that was never rewound")
