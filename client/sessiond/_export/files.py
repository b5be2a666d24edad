"""Files of exports. Everything in here may block."""

import os
import tempfile
import uuid
from pathlib import Path
from typing import IO

READ_BYTES = 256 * 1024


class NewFile:
    """A file that takes the place of the one that is there, when it is complete. Opened here. Raises: OSError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # What is there and no file, e.g. a pipe, cannot be replaced: it is written to.
        self._is_beside = Path(path).is_file() or not Path(path).exists()
        # A link stays one, and leads to the new file.
        self._target = Path(os.path.realpath(path))
        self._path = (
            self._target.with_name(f".{uuid.uuid4().hex}.part") if self._is_beside else Path(path)
        )
        try:
            self._file = self._path.open(
                "x" if self._is_beside else "w", encoding="utf-8", newline="\n"
            )
        except OSError as error:
            # With the name that the caller knows.
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None

    def write(self, text: str) -> None:
        self._file.write(text)

    def complete(self) -> None:
        """Close it, and put it into its place."""
        self._file.close()
        if self._is_beside:
            self._path.replace(self._target)

    def discard(self) -> None:
        """Close it, and leave what was there before."""
        try:
            self._file.close()
        finally:
            if self._is_beside:
                self._path.unlink(missing_ok=True)


class TemporaryFile:
    """A file of its own, to be written and then read by its path. Opened here. Raises: OSError."""

    def __init__(self) -> None:
        number, self.path = tempfile.mkstemp(prefix="sessiond-")
        self._file = os.fdopen(number, "wb")  # closed by complete() or discard()

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def complete(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def discard(self) -> None:
        """Close it, and remove it."""
        try:
            self._file.close()
        finally:
            Path(self.path).unlink(missing_ok=True)


class LinesFile:
    """The lines of a file, some at a time. Opened here. Raises: OSError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115 - closed by close()

    def read(self) -> list[bytes]:
        """The next lines, with their ends. Empty = there are no more."""
        return self._file.readlines(READ_BYTES)

    def close(self) -> None:
        self._file.close()
