"""Files of exports. Every call may block."""

import os
import tempfile
import uuid
from pathlib import Path
from typing import IO

READ_BYTES = 256 * 1024


class NewFile:
    """A text file that replaces the file at its path when it is complete.

    Args:
        path: path of the file. A pipe or a device is written directly; a symbolic link is kept.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._is_beside = Path(path).is_file() or not Path(path).exists()
        self._target = Path(os.path.realpath(path))
        self._path = (
            self._target.with_name(f".{uuid.uuid4().hex}.part") if self._is_beside else Path(path)
        )
        try:
            self._file = self._path.open(
                "x" if self._is_beside else "w", encoding="utf-8", newline="\n"
            )
        except OSError as error:
            # The error should name the caller's path, not the temporary one.
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None

    def write(self, text: str) -> None:
        self._file.write(text)

    def complete(self) -> None:
        """Close the file and move it to its path."""
        self._file.close()
        if self._is_beside:
            self._path.replace(self._target)

    def discard(self) -> None:
        """Close and remove the new file. The existing file, if any, is kept."""
        try:
            self._file.close()
        finally:
            if self._is_beside:
                self._path.unlink(missing_ok=True)


class TemporaryFile:
    """A temporary file, to write and then read by its path.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self) -> None:
        number, self.path = tempfile.mkstemp(prefix="sessiond-")
        self._file = os.fdopen(number, "wb")  # complete() or discard() closes it

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def complete(self) -> None:
        """Close the file, so that it can be read."""
        self._file.close()

    def discard(self) -> None:
        """Close and remove the file."""
        try:
            self._file.close()
        finally:
            Path(self.path).unlink(missing_ok=True)


class LinesFile:
    """A file that is read some lines at a time.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115 - close() closes it

    def read(self) -> list[bytes]:
        """Return the next lines, with their line ends. Empty = the end of the file."""
        return self._file.readlines(READ_BYTES)

    def close(self) -> None:
        self._file.close()
