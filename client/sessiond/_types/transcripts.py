"""The result of an import of transcripts."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of a transcript that cannot be read."""

    line: int
    """The line's number in its file, from 1; 0 = the file as a whole. In a JSON document, the place
    of the conversation or message, from 1."""
    reason: str
    """What is wrong with it, for people to read."""
    text: bytes = field(default=b"", repr=False, compare=False)
    """The line, if it was kept as a message; else b""."""


@dataclass(frozen=True, slots=True)
class ImportedTranscript:
    """A transcript that was imported completely."""

    path: str
    """Path of its file."""
    session_id: str
    """The id of its session."""
    added: int
    """Number of messages that this import stored."""
    known: int
    """Number of lines that the session had already."""
    repeated: int = 0
    """Number of lines that repeat an earlier line of the same file."""
    bad_lines: list[BadLine] = field(default_factory=list)
    """The unreadable lines, which were stored as text."""


@dataclass(frozen=True, slots=True)
class FailedTranscript:
    """A transcript from which this import stored nothing."""

    path: str
    """Path of its file, or the given path, if no transcripts are there."""
    session_id: str | None
    """The id that its session would have. None = unknown."""
    bad_lines: list[BadLine]
    """What is wrong: the lines that cannot be read or stored, or the file as a whole (line 0). At
    least one."""

    def __str__(self) -> str:
        return "\n".join(
            f"{self.path}:{bad.line}: {bad.reason}" if bad.line else f"{self.path}: {bad.reason}"
            for bad in self.bad_lines
        )


@dataclass(frozen=True, slots=True)
class TranscriptImport:
    """The result of an import of transcripts."""

    imported: list[ImportedTranscript]
    """The imported transcripts, in the order of their paths."""
    failed: list[FailedTranscript]
    """The transcripts that were not imported."""

    @property
    def added(self) -> int:
        """Number of messages that were stored."""
        return sum(transcript.added for transcript in self.imported)
