"""The limits of a project."""

from dataclasses import dataclass, fields

MAX_LIMIT = 2**53
"""Largest value of a limit; JSON numbers of this size are exact in every language."""


@dataclass(frozen=True, slots=True)
class ProjectLimits:
    """The limits of a project, with the fields of the proto.

    In limits that were set for a project, None is the server's default, and 0 is no limit. In
    effective limits (`effective`), None is no limit, and 0 does not occur.
    """

    calls_per_second: int | None = None
    messages_per_second: int | None = None
    max_sessions: int | None = None
    max_bytes: int | None = None
    max_running_turns: int | None = None
    model_tokens_per_day: int | None = None

    def effective(self, defaults: "ProjectLimits") -> "ProjectLimits":
        """Return the effective limits, given the server's defaults."""
        return ProjectLimits(*(self._effective(name, defaults) for name in LIMIT_NAMES))

    def _effective(self, name: str, defaults: "ProjectLimits") -> int | None:
        own = getattr(self, name)
        return (getattr(defaults, name) if own is None else own) or None

    @property
    def has_usage(self) -> bool:
        """Whether a limit must be compared with amounts that the database stores."""
        return (
            self.max_sessions,
            self.max_bytes,
            self.max_running_turns,
            self.model_tokens_per_day,
        ) != (None, None, None, None)


LIMIT_NAMES = tuple(field.name for field in fields(ProjectLimits))
NO_LIMITS = ProjectLimits()
