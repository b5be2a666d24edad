"""The settings, with the limits of connections, of imports, and of projects."""

from pydantic import Field

from sessiond_server.quotas.limits import LIMIT_NAMES, ProjectLimits
from sessiond_server.settings.model import ServerSettings


class Settings(ServerSettings):
    """All settings of the server; see ServerSettings."""

    max_running_imports: int = Field(
        64,
        ge=1,
        description="Maximum number of ImportMessages and ImportSession calls that run at once in "
        "each process; more are refused. One project may have half of them.",
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        description="Maximum number of connections of each process; more are closed at once, and "
        "their clients connect again. Each takes a file descriptor.",
    )
    max_connection_streams: int = Field(
        1000,
        ge=1,
        description="Maximum number of calls at a time on one connection, streams included. "
        "Clients hold further calls back until earlier ones have ended.",
    )
    max_metadata_bytes: int = Field(
        16 * 1024,
        ge=4096,
        le=1024 * 1024,
        description="Maximum size of the metadata of one call, in bytes.",
    )

    default_limit_calls_per_second: int = Field(
        0,
        ge=0,
        description="Calls a second that each process takes from a project that has no limit of "
        "its own. 0 = no limit.",
    )
    default_limit_messages_per_second: int = Field(
        0,
        ge=0,
        description="Messages a second that each process stores for a project that has no limit "
        "of its own. 0 = no limit.",
    )
    default_limit_max_sessions: int = Field(
        0,
        ge=0,
        description="Maximum number of sessions of a project that has no limit of its own. "
        "0 = no limit.",
    )
    default_limit_max_bytes: int = Field(
        0,
        ge=0,
        description="Maximum size of the messages and assets of a project that has no limit of "
        "its own, in bytes. 0 = no limit.",
    )
    default_limit_max_running_turns: int = Field(
        0,
        ge=0,
        description="Maximum number of running and queued turns of a project that has no limit "
        "of its own. 0 = no limit.",
    )
    default_limit_model_tokens_per_day: int = Field(
        0,
        ge=0,
        description="Tokens that turns of a project that has no limit of its own may use from "
        "midnight to midnight UTC. 0 = no limit.",
    )

    def default_limits(self) -> ProjectLimits:
        """Return the limits of projects without own limits."""
        return ProjectLimits(
            **{name: getattr(self, f"default_limit_{name}") for name in LIMIT_NAMES}
        )
