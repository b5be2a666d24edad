"""The settings of a session, and their checks."""

import uuid
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any
from uuid import UUID

from sessiond_server.core.errors import invalid
from sessiond_server.core.ids import session_key
from sessiond_server.core.json_text import parse_options
from sessiond_server.core.limits import (
    MAX_IDLE_TTL_MS,
    MAX_NAME_CHARACTERS,
    MAX_SESSION_ID_CHARACTERS,
    MAX_TITLE_CHARACTERS,
    MIN_IDLE_TTL_MS,
    Limits,
)
from sessiond_server.core.validation import check_text
from sessiond_server.sessions.store.filters import SessionFilter
from sessiond_server.sessions.store.sessions import MODEL_OPTIONS, NewSession
from sessiond_server.sessions.store.state import NO_PATCH, StatePatch

NEVER = -1
"""Value of idle_ttl_ms for a session that never expires, whatever the server's default is."""

# The text settings, with their maximum numbers of characters.
_TEXTS = {
    "model": MAX_NAME_CHARACTERS,
    "user_name": MAX_NAME_CHARACTERS,
    "title": MAX_TITLE_CHARACTERS,
}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The settings of a new session.

    Attributes:
        model: name of a model; "" for none.
        user_name: the user that the session belongs to; "" for none.
        title: a title for people to read; "" for none.
        config: a JSON object; None for none.
        metadata: a JSON object; None for none.
        idle_ttl_ms: idle time before expiry; None for the server's default, NEVER for no expiry.
            Unit: milliseconds.
        state: the session's state, as a change of an empty state.
    """

    model: str = ""
    user_name: str = ""
    title: str = ""
    config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    idle_ttl_ms: int | None = None
    state: StatePatch = NO_PATCH

    @property
    def content(self) -> list[Any]:
        """The values that a repetition of the request must repeat."""
        *settings, _ = astuple(self)
        return settings + self.state.content if self.state else settings


def new_session(
    project_id: UUID,
    session_id: str,
    settings: SessionSettings,
    limits: Limits,
    path: str = "session",
) -> NewSession:
    """Return a session to create.

    Args:
        project_id: the caller's project.
        session_id: the session's id.
        settings: the settings.
        limits: the operator's limits.
        path: path of the settings in the request.

    Raises:
        Fault: INVALID_FIELD if a setting is invalid.
    """
    check_texts({name: getattr(settings, name) for name in _TEXTS}, path)
    return NewSession(
        key=session_key(project_id, session_id),
        project_id=project_id,
        session_id=session_id,
        log=uuid.uuid4(),
        model=settings.model,
        user_name=settings.user_name,
        title=settings.title,
        config=settings.config or {},
        metadata=settings.metadata or {},
        idle_ttl_ms=stored_ttl(settings.idle_ttl_ms, limits, path),
        state=settings.state,
    )


def model_options_of(config: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return `model_options` of a config: fields of a provider's request, in their order.

    Args:
        config: a session's config, or a patch of it.
        field: path of the config in the request, for faults.

    Raises:
        Fault: INVALID_FIELD or INVALID_JSON if it is not a string with a JSON object.
    """
    text, field = config.get(MODEL_OPTIONS), f"{field}.{MODEL_OPTIONS}"
    if text is not None and not isinstance(text, str):
        raise invalid(
            field,
            "is not a string; store the options as JSON text, such as '{\"temperature\": 0}', "
            "since an object in a config does not keep the order of its keys",
        )
    return parse_options(text or "", field)


def check_filter(chosen: SessionFilter) -> None:
    """Check the texts of a filter.

    Raises:
        Fault: INVALID_FIELD.
    """
    check_text("filter.session_id_prefix", chosen.session_id_prefix, MAX_SESSION_ID_CHARACTERS)
    for field, text in {"user": chosen.user_name, "model": chosen.model}.items():
        check_text(f"filter.{field}", text, MAX_NAME_CHARACTERS)


def check_texts(values: Mapping[str, Any], path: str = "session") -> None:
    """Check the text settings among new values.

    Args:
        values: new values by name, as in SessionSettings.
        path: path of the settings in the request.

    Raises:
        Fault: INVALID_FIELD if a text is invalid.
    """
    for name in values.keys() & _TEXTS.keys():
        field = "user" if name == "user_name" else name
        check_text(f"{path}.{field}", values[name], _TEXTS[name])


def checked_ttl(idle_ttl_ms: int | None, field: str) -> int | None:
    """Check the range of an idle_ttl.

    Raises:
        Fault: INVALID_FIELD for the field if the idle_ttl is out of range.
    """
    if idle_ttl_ms is not None and not MIN_IDLE_TTL_MS <= idle_ttl_ms <= MAX_IDLE_TTL_MS:
        raise invalid(field, f"is {idle_ttl_ms} ms; from 1 second to 10 years are allowed")
    return idle_ttl_ms


def stored_ttl(idle_ttl_ms: int | None, limits: Limits, path: str = "session") -> int | None:
    """Return the idle_ttl_ms to store in a session's row; None for no expiry.

    Args:
        idle_ttl_ms: as in SessionSettings.
        limits: limits with the server's default.
        path: path of the settings in the request.

    Raises:
        Fault: INVALID_FIELD if idle_ttl_ms is out of range.
    """
    if idle_ttl_ms is None:
        idle_ttl_ms = limits.default_idle_ttl_ms
    return None if idle_ttl_ms == NEVER else checked_ttl(idle_ttl_ms, f"{path}.idle_ttl")
