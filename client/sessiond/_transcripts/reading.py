"""Chooses the lines of a transcript that a session does not have yet."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import replace

from sessiond._transcripts.records import Line, Transcript, kept
from sessiond._types.transcripts import BadLine, ImportedTranscript
from sessiond.errors import SessiondError
from sessiond.v1 import message_pb2

# Maximum number of bad lines of a file that are reported.
MAX_NAMED = 100
_BATCH_BYTES = 256 * 1024


class Unreadable(Exception):
    """A transcript has lines that cannot be read."""


class Reading:
    """Reads a transcript once, for a session with known messages.

    Attributes:
        bad_lines: the lines that cannot be read.
        known: number of lines that the session has.
        repeated: number of lines that repeat an earlier one.
        added: number of messages that take() returned.
        size: number of bytes that were read.
    """

    def __init__(
        self, transcript: Transcript, known: Mapping[str, int], last_seq: int, *, keep_bad: bool
    ) -> None:
        self.bad_lines: list[BadLine] = []
        self.known = self.repeated = self.added = self.size = 0
        self._bad_count = 0
        self._keep_bad = keep_bad
        self._seqs = dict(known)
        self._first_new = last_seq + 1
        # The line number of each message that take() returned.
        self._places = array("q")
        self._messages = self._read(transcript)

    def take(self) -> list[message_pb2.Message]:
        """Return the next new messages, about 256 KiB. [] = there are no more.

        Raises:
            Unreadable: at the end, if there are bad lines that are not to be kept.
            OSError: if the file cannot be read.
        """
        batch, size = [], 0
        for message in self._messages:
            batch.append(message)
            size += len(message.json)
            if size >= _BATCH_BYTES:
                break
        return batch

    def result(self, path: str, session_id: str) -> ImportedTranscript:
        """Return the result, once the messages are stored."""
        return ImportedTranscript(
            path, session_id, self.added, self.known, self.repeated, self.bad_lines
        )

    def bad_lines_of(self, error: SessiondError) -> list[BadLine]:
        """Return the lines that a server refuses."""
        found: list[BadLine] = []
        for violation in error.field_violations:
            name, _, rest = violation.field.partition("]")
            number = name.removeprefix("messages[")
            if name != number and number.isdigit() and int(number) < len(self._places):
                line = self._places[int(number)]
                found.append(BadLine(line, f"{rest.lstrip('.')} {violation.description}".strip()))
        return found or [BadLine(0, str(error))]

    def _read(self, transcript: Transcript) -> Iterator[message_pb2.Message]:
        seen: set[str] = set()
        previous_seq = 0
        for read in transcript.lines():
            if isinstance(read, BadLine):
                self._add_bad(read)
                if not self._keep_bad:
                    continue
            line = kept(read) if isinstance(read, BadLine) else read
            self.size += len(line.json)
            if line.message_id in seen:
                self.repeated += 1
                continue
            seen.add(line.message_id)
            if seq := self._seqs.get(line.message_id):
                self.known += 1
                previous_seq = seq
                continue
            if self._bad_count and not self._keep_bad:
                # Nothing will be stored any more. Continue only to report the other bad lines.
                continue
            seq = self._first_new + self.added
            yield self._message(line, seq, previous_seq)
            self._seqs[line.message_id] = previous_seq = seq
        if self._bad_count and not self._keep_bad:
            raise Unreadable

    def _message(self, line: Line, seq: int, previous_seq: int) -> message_pb2.Message:
        message = message_pb2.Message(
            format=message_pb2.FORMAT_OTHER,
            format_name=line.format_name,
            # protobuf also takes UTF-8 bytes for a string.
            json=line.json,  # type: ignore[arg-type]
            message_id=line.message_id,
        )
        parent = self._seqs.get(line.parent, 0) if line.parent else previous_seq
        if line.parent == "" and seq > 1:
            message.is_root = True
        elif parent and parent != seq - 1:
            message.parent_seq = parent
        self.added += 1
        self._places.append(line.place)
        return message

    def _add_bad(self, bad: BadLine) -> None:
        self._bad_count += 1
        if self._keep_bad or len(self.bad_lines) < MAX_NAMED:
            self.bad_lines.append(bad if self._keep_bad else replace(bad, text=b""))
        elif len(self.bad_lines) == MAX_NAMED:
            self.bad_lines.append(BadLine(0, "has more bad lines"))
