"""The programs whose transcripts can be read."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from sessiond._protocol.checks import listed, path_of
from sessiond._transcripts import claude_code, codex, openai_export
from sessiond._transcripts.documents import LANGCHAIN, SHAREGPT
from sessiond._transcripts.records import Program, Transcript
from sessiond._types.transcripts import BadLine
from sessiond.errors import InvalidField, invalid_field

PROGRAMS: dict[str, Program] = {
    "claude-code": cast("Program", claude_code),
    "codex": cast("Program", codex),
    "openai-export": cast("Program", openai_export),
    "sharegpt": SHAREGPT,
    "langchain": LANGCHAIN,
}


def program_of(name: str) -> Program:
    """Return a program by its name.

    Raises:
        InvalidField: if there is no such program.
    """
    try:
        return PROGRAMS[name]
    except (KeyError, TypeError):
        raise invalid_field(
            "program", f"is {name!r:.60}; it must be one of {', '.join(PROGRAMS)}"
        ) from None


def files_of(
    program: Program, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
) -> list[Path]:
    """Return the files of transcripts, each once, in the order of the paths.

    Args:
        program: the program.
        paths: files and directories. A directory without transcripts is itself returned.

    Raises:
        InvalidField: if a value is not a path.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else [*listed(paths, "paths")]
    found = [file for path in given for file in _below(program, Path(path_of(path, "paths")))]
    return list({path.resolve(): path for path in found}.values())


def _below(program: Program, path: Path) -> Iterator[Path]:
    files = [*program.find(path)] if path.is_dir() else []
    yield from files or [path]


def transcripts_of(program: Program, name: str, path: Path) -> Iterator[Transcript | BadLine]:
    """Yield the transcripts in a file, and a BadLine for each part that cannot be read.

    Args:
        program: the program.
        name: the name of the program.
        path: the file, or a directory without files of the program.
    """
    if path.is_dir():
        yield BadLine(0, f"has no transcripts of {name}")
        return
    try:
        yield from program.read(path)
    except OSError as error:
        yield BadLine(0, error.strerror or str(error))
    except InvalidField as error:
        # No session id can be made: the file's name, or an id in the file, cannot be part of one.
        yield BadLine(0, str(error))
