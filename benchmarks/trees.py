"""What comparisons of source trees share: databases, packages, and CPU times on Linux."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg


def cpu_s(server: int, client: int, postmaster: int) -> tuple[float, float, float]:
    """Return the CPU times of a server, a client and PostgreSQL's backends so far, in seconds.

    Args:
        server: id of the server's process; 0 = no server.
        client: id of the client's process.
        postmaster: id of PostgreSQL's first process.
    """
    backends = sum(_process_s(pid) for pid in _children(postmaster))
    return _process_s(server) if server else 0.0, _process_s(client), backends


def _process_s(pid: int) -> float:
    """Return the time that the threads of a process have spent on processors, in seconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(pid: int) -> list[int]:
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    children = []
    for process in processes:
        with suppress(OSError):  # the process has ended meanwhile
            if _parent(process) == pid:
                children.append(process)
    return children


def postmaster(url: str) -> int:
    """Return the id of the first process of the PostgreSQL that a URL names."""
    with psycopg.connect(url) as connection:  # a backend runs only while it is connected
        return _parent(connection.info.backend_pid)


@contextmanager
def database(url: str, number: int) -> Iterator[str]:
    """Create a database on the server of another database, and drop it at the end."""
    name = f"tree_{number}_{os.getpid()}"
    parts = urlsplit(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield urlunsplit(parts._replace(path=f"/{name}", netloc=parts.netloc or "@"))
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@contextmanager
def sources(tree: Path) -> Iterator[None]:
    """Let processes that the block starts use the packages of a source tree."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(str(tree / name) for name in ("client", "server"))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
