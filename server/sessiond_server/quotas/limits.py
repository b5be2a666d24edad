"""The limits of a project."""

from dataclasses import dataclass, fields

MAX_LIMIT = 2**53
"""Largest value of a limit; JSON numbers of this size are exact in every language."""


@dataclass(frozen=True, slots=True)
class ProjectLimits:
    """What a project may use, field by field as in the protos.

    As set for a project, None stands for the server's default, and 0 for no limit. As they hold for
    a project (`effective`), None stands for no limit, and 0 does not occur.
    """

    calls_per_second: int | None = None
    messages_per_second: int | None = None
    max_sessions: int | None = None
    max_bytes: int | None = None
    max_running_turns: int | None = None
    model_tokens_per_day: int | None = None

    def effective(self, defaults: "ProjectLimits") -> "ProjectLimits":
        """Return the limits that hold, given the server's defaults."""
        return ProjectLimits(*(self._effective(name, defaults) for name in LIMIT_NAMES))

    def _effective(self, name: str, defaults: "ProjectLimits") -> int | None:
        own = getattr(self, name)
        return (getattr(defaults, name) if own is None else own) or None

    @property
    def has_usage(self) -> bool:
        """Whether a limit has to be compared with what the database stores."""
        return (
            self.max_sessions,
            self.max_bytes,
            self.max_running_turns,
            self.model_tokens_per_day,
        ) != (None, None, None, None)


LIMIT_NAMES = tuple(field.name for field in fields(ProjectLimits))
NO_LIMITS = ProjectLimits()
