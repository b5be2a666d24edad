"""Options of both clients of `sessiond.compat.copilot`. No I/O."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias, TypedDict, cast

from sessiond._requests.options import ListSessionsOptions, SessionSettings
from sessiond._types.event import EventHandler
from sessiond._types.session import SessionInfo

WAIT_TIMEOUT_S = 60.0
DESTROY_TIMEOUT_S = 60.0

# Must exceed the number of turns that may run or wait in one session at the server.
MAX_SENT = 1000


class ResumeConfig(TypedDict, total=False):
    """The changes when a session is resumed: the fields of SessionConfig except session_id."""

    model: str | None
    """Name of the model. Default: the server's default model."""
    system_message: str | Mapping[str, Any] | None
    """The system prompt: a string, or {"content": ...} with the mode "append" or "replace". Both
    modes are equivalent, because there is no built-in prompt to append to."""
    reasoning_effort: str | None
    """Passed to the model unchanged."""
    infinite_sessions: bool | Mapping[str, Any] | None
    """True = the session never expires. False = the server's default. A dict is only stored in the
    session's config: it concerns compaction of the history, not expiry."""
    on_event: EventHandler | None
    """A function to call with each event, as with session.on()."""
    streaming: bool | None
    """Ignored, as are all fields below: the session always publishes deltas."""
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
    """The settings to create a session with, as a dict.

    Can also be written as a call: SessionConfig(session_id="...", model="..."). All other fields of
    the SDK raise TypeError unless they are empty, because they are not supported.
    """

    session_id: str | None
    """The session's id. Default: the server generates one."""


class MessageOptions(TypedDict, total=False):
    """A message to send, as a dict.

    Can also be written as a call: MessageOptions(prompt="..."). Other fields raise TypeError.
    """

    prompt: str
    """The user's text."""
    attachments: Sequence[Any] | None
    """Files, as `client.sessions.send` takes them, or the SDK's dicts of type "file" or "blob"."""
    mode: str | None
    """What to do while a turn is running: "enqueue" (default) or "immediate"."""


ConfigInput: TypeAlias = SessionConfig | ResumeConfig | Mapping[str, Any]
PromptInput: TypeAlias = str | MessageOptions | Mapping[str, Any]

# Options of the local process that the SDK starts.
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
    """The server's answer to a ping."""

    message: str
    """The message of the ping, after "pong: "."""
    timestamp: int
    """Time of the answer by this machine's clock, in milliseconds since 1970."""


def pong(message: str | None) -> PingResponse:
    return PingResponse(f"pong: {message or ''}".rstrip(), int(time.time() * 1000))


class RequestedSettings:
    """The settings that a session should have, from any of the SDK's spellings.

    Args:
        call: name of the call, for errors.
        given: a dict or dataclass of settings.
        keywords: more settings.

    Raises:
        TypeError: a setting is unknown, given twice, or not supported.
        ValueError: a setting is malformed.
    """

    def __init__(self, call: str, given: ConfigInput | None, keywords: Mapping[str, Any]) -> None:
        values = _merged(call, given, keywords, SessionConfig.__optional_keys__)
        self.session_id: str | None = values.get("session_id")
        self.on_event: EventHandler | None = values.get("on_event")
        self.model: str | None = values.get("model")
        infinite = values.get("infinite_sessions")
        if not isinstance(infinite, bool | Mapping | None):
            # Refuse values of other types. If one were taken for False, the session would expire,
            # although the caller may have meant True.
            raise TypeError(
                f"infinite_sessions is True, False or a dict, not {type(infinite).__name__}"
            )
        self.never_expires = infinite is True
        self._config: dict[str, Any] = {}
        if isinstance(infinite, Mapping):
            self._config["infinite_sessions"] = dict(infinite)
        if system_prompt := _system_prompt(values.get("system_message")):
            self._config["system_prompt"] = system_prompt
        if effort := values.get("reasoning_effort"):
            self._config["model_options"] = {"reasoning_effort": effort}

    @property
    def settings(self) -> SessionSettings:
        """The settings to create a session with."""
        return SessionSettings(
            model=self.model, config=self._config or None, never_expires=self.never_expires
        )

    @property
    def changes(self) -> dict[str, Any] | None:
        """The changes to an existing session. None = no change."""
        changes = {
            "model": self.model or None,
            "config_patch": self._config or None,
            "never_expires": self.never_expires,
        }
        return changes if any(changes.values()) else None


def options_of(given: PromptInput | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `session.send`.

    Raises:
        TypeError: an option is unknown or given twice, or the prompt is missing.
    """
    options = {"prompt": given} if isinstance(given, str) else given
    values = _merged("send", options, keywords, MessageOptions.__optional_keys__)
    if "prompt" not in values:
        raise TypeError("send() needs a prompt")
    return values


def filters_of(given: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> ListSessionsOptions:
    """Return the keywords of `client.list_sessions`.

    Raises:
        TypeError: a filter is unknown or given twice.
    """
    known = ListSessionsOptions.__optional_keys__
    return cast("ListSessionsOptions", _merged("list_sessions", given, keywords, known))


def check_client_options(given: Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> None:
    """Check the options of the SDK's client, which have no effect.

    Raises:
        TypeError: an option is unknown or given twice.
    """
    _merged("CopilotClient", given, keywords, _UNUSED_OPTIONS)


def handler_of(
    call: str, type_or_handler: str | EventHandler, handler: EventHandler | None
) -> tuple[str | None, EventHandler]:
    """Return the type of events (None = any) and the function to call with them.

    Raises:
        TypeError: a type is given without a function.
    """
    if isinstance(type_or_handler, str):
        if handler is None:
            raise TypeError(f"{call}() needs a handler in addition to the type")
        return type_or_handler, handler
    return None, type_or_handler


def _merged(
    call: str, given: object, keywords: Mapping[str, Any], known: Collection[str]
) -> dict[str, Any]:
    """Merge a dict or dataclass with keywords; leave out None and empty unknown values.

    Raises:
        TypeError: a key is given twice, or is unknown and not empty.
    """
    if is_dataclass(given) and not isinstance(given, type):
        given = {field.name: getattr(given, field.name) for field in fields(given)}
    values = {} if given is None else given
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{call}() takes a dict, a dataclass, or keywords, not {type(values).__name__}"
        )
    if twice := values.keys() & keywords.keys():
        raise TypeError(f"{call}() got {min(twice)!r} twice, in the dict and as a keyword")
    values = {**values, **keywords}
    for key, value in values.items():
        # An empty unknown option, e.g. a list of tools, requests nothing.
        if key not in known and value not in (None, False, "", [], (), {}):
            raise TypeError(f"{call}() knows no {key!r} here; it takes {', '.join(sorted(known))}")
    return {key: value for key, value in values.items() if key in known and value is not None}


class SessionMetadata(SessionInfo):
    """A session, as the SDK lists it."""

    __slots__ = ()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key; `default` for an unknown key, None and an empty string.

        The SDK omits keys that a session does not have, such as a summary.
        """
        value = super().get(key)
        return default if value is None or value == "" else value


def _system_prompt(given: object) -> str:
    match given:
        case None:
            return ""
        case str():
            return given
        # Other keys are refused, because they would have no effect.
        case {"content": str() as content, **rest} if rest in (
            {},
            {"mode": "append"},
            {"mode": "replace"},
        ):
            return content
        case _:
            raise ValueError(
                'system_message must be a str, or {"content": str} with mode "append" or "replace"'
            )
