"""The settings of the limits that projects have by default."""

from pydantic import Field
from pydantic_settings import BaseSettings

from sessiond_server.quotas.limits import LIMIT_NAMES, ProjectLimits


class QuotaSettings(BaseSettings):
    """The limits of projects without own limits, which `sessiond projects limits` sets."""

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
