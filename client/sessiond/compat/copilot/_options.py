"""What both clients of `sessiond.compat.copilot` share: spellings, and what becomes of each field. No I/O in here."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias, TypedDict, cast

from sessiond._requests.options import ListSessionsOptions, SessionSettings
from sessiond._types.event import EventHandler
from sessiond._types.session import SessionInfo

WAIT_TIMEOUT_S = 60.0
DESTROY_TIMEOUT_S = 60.0

# More than the server lets run and wait in one session.
MAX_SENT = 1000


class ResumeConfig(TypedDict, total=False):
    """What to change of a session when it is resumed: the fields of SessionConfig, but for its id."""

    model: str | None
    """Default: the server's."""
    system_message: str | Mapping[str, Any] | None
    """A text, or {"content": ...} with the mode "append" or "replace", which are the same here: nothing stands before it."""
    reasoning_effort: str | None
    """Goes to the model as it is."""
    infinite_sessions: bool | Mapping[str, Any] | None
    """True = the session never expires. A dict is kept in the session's config: it is about shortening what the model is sent, and nothing
    expires earlier or later for it. False = the server's default."""
    on_event: EventHandler | None
    """Is called as by session.on()."""
    streaming: bool | None
    """Without effect, as is all below: deltas always come."""
    include_sub_agent_streaming_events: bool | None
    client_name: str | None
    working_directory: str | None
    config_dir: str | None
    on_permission_request: Any
    on_user_input_request: Any
    on_elicitation_request: Any
    on_exit_plan_mode_request: Any
    on_auto_mode_switch_request: Any
    on_mcp_auth_request: Any
    disable_resume: bool | None
    continue_pending_work: bool | None
    enable_session_telemetry: bool | None


class SessionConfig(ResumeConfig, total=False):
    """What to make a session with: a dict, which may also be written as a call, SessionConfig(session_id="...", model="...").

    The rest of the SDK's fields raise TypeError, unless they are empty: what they ask for does not happen here.
    """

    session_id: str | None
    """Default: the server makes one."""


class MessageOptions(TypedDict, total=False):
    """What to send: a dict, which may also be written as a call, MessageOptions(prompt="..."). Other fields raise TypeError."""

    prompt: str
    """What the user says."""
    attachments: Sequence[Any] | None
    """Files, as `client.sessions.send` takes them; of the SDK's dicts "file" and "blob"."""
    mode: str | None
    """Where a turn is running: "enqueue" (default) or "immediate"."""


ConfigInput: TypeAlias = SessionConfig | ResumeConfig | Mapping[str, Any]
PromptInput: TypeAlias = str | MessageOptions | Mapping[str, Any]

# About the process that the SDK starts on the user's own machine.
_UNUSED_OPTIONS = frozenset(
    {
        "auto_restart",
        "auto_start",
        "base_directory",
        "cli_args",
        "cli_path",
        "cwd",
        "env",
        "github_token",
        "log_level",
        "port",
        "telemetry",
        "use_logged_in_user",
        "use_stdio",
        "working_directory",
    }
)


@dataclass(frozen=True, slots=True)
class PingResponse:
    """The server's answer, and so a sign that it answers at all."""

    message: str
    """What was said, after "pong: "."""
    timestamp: int
    """By this machine's clock. Unit: milliseconds since 1970."""


def pong(message: str | None) -> PingResponse:
    return PingResponse(f"pong: {message or ''}".rstrip(), int(time.time() * 1000))


class Wanted:
    """What a session shall be, wherever and however it was said."""

    def __init__(self, call: str, given: ConfigInput | None, keywords: Mapping[str, Any]) -> None:
        """Raises: TypeError for what is not known, said twice, or not to be had; ValueError."""
        values = _merged(call, given, keywords)
        _refuse(call, values, SessionConfig.__optional_keys__)
        self.session_id: str | None = values.pop("session_id", None)
        self.on_event: EventHandler | None = values.get("on_event")
        self.model: str | None = values.get("model")
        self.never_expires = False
        self._config: dict[str, Any] = {}
        match values.get("infinite_sessions"):
            case None | False:
                pass
            case True:
                self.never_expires = True
            case Mapping() as policy:
                self._config["infinite_sessions"] = dict(policy)
            case other:
                # Not guessed at: who means True would lose a session.
                raise TypeError(
                    f"infinite_sessions is True, False or a dict, not {type(other).__name__}"
                )
        if system_prompt := _system_prompt(values.get("system_message")):
            self._config["system_prompt"] = system_prompt
        if effort := values.get("reasoning_effort"):
            self._config["model_options"] = {"reasoning_effort": effort}

    @property
    def settings(self) -> SessionSettings:
        """Of a session that is made."""
        return SessionSettings(
            model=self.model, config=self._config or None, never_expires=self.never_expires
        )

    @property
    def changes(self) -> dict[str, Any] | None:
        """Of one that is there. None = it stays as it is."""
        changes: dict[str, Any] = {}
        if self.model:
            changes["model"] = self.model
        if self._config:
            changes["config_patch"] = self._config
        if self.never_expires:
            changes["never_expires"] = True
        return changes or None


def options_of(given: PromptInput | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `session.send`. Raises: TypeError for what is not known or said twice, or no prompt."""
    values = _merged("send", {"prompt": given} if isinstance(given, str) else given, keywords)
    _refuse("send", values, MessageOptions.__optional_keys__)
    if values.get("prompt") is None:
        raise TypeError("send() needs a prompt")
    # None is as not given.
    return {key: value for key, value in values.items() if value is not None}


def filters_of(given: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> ListSessionsOptions:
    """Raises: TypeError."""
    values = _merged("list_sessions", given, keywords)
    _refuse("list_sessions", values, ListSessionsOptions.__optional_keys__)
    return cast(
        "ListSessionsOptions", {key: value for key, value in values.items() if value is not None}
    )


def check_client_options(given: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> None:
    """Raises: TypeError for what is not known."""
    _refuse("CopilotClient", _merged("CopilotClient", given, keywords), _UNUSED_OPTIONS)


def handler_of(
    call: str, type_or_handler: str | EventHandler, handler: EventHandler | None
) -> tuple[str | None, EventHandler]:
    """The type, None = any, and what is called with its events. Raises: TypeError."""
    if isinstance(type_or_handler, str):
        if handler is None:
            raise TypeError(f"{call}() takes a handler besides the type")
        return type_or_handler, handler
    return None, type_or_handler


def end_all(subscriptions: Iterable[Callable[[], None]]) -> None:
    for unsubscribe in subscriptions:
        unsubscribe()


def _merged(call: str, given: object, keywords: Mapping[str, Any]) -> dict[str, Any]:
    if given is None:
        return dict(keywords)
    if is_dataclass(given) and not isinstance(given, type):
        # A config class of the caller's own.
        given = {field.name: getattr(given, field.name) for field in fields(given)}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{call}() takes a dict, a dataclass, or keywords, not {type(given).__name__}"
        )
    if twice := given.keys() & keywords.keys():
        raise TypeError(f"{call}() got {min(twice)!r} twice, in the dict and as a keyword")
    return {**given, **keywords}


def _refuse(call: str, values: Mapping[str, Any], known: Collection[str]) -> None:
    for key, value in values.items():
        # An empty list of tools asks for nothing.
        if key not in known and value not in (None, False, "", [], (), {}):
            raise TypeError(f"{call}() knows no {key!r} here; it takes {', '.join(sorted(known))}")


class SessionMetadata(SessionInfo):
    """A session as the SDK lists it."""

    __slots__ = ()

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key; `default` for an unknown key, None and an empty string.

        The SDK leaves out what a session does not have, such as a summary.
        """
        value = super().get(key)
        return default if value is None or value == "" else value


_MODES = ("append", "replace")


def _system_prompt(given: object) -> str:
    match given:
        case None:
            return ""
        case str():
            return given
        # "mode" may be missing; anything but these two keys would be ignored without a word.
        case {"content": str() as content, **rest} if rest.get("mode", "append") in _MODES and (
            rest.keys() <= {"mode"}
        ):
            return content
        case _:
            raise ValueError(
                'system_message is a text, or {"content": text} with the mode "append" or "replace"'
            )
