"""PgBouncer in transaction mode, in a process of its own, in front of a test's database."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from .processes import free_port
from .waiting import PATIENCE_S

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(database_url: str, *, pool_size: int = 5) -> Iterator[str]:
    """Run PgBouncer, and yield the URL of the database through it.

    Args:
        database_url: the database.
        pool_size: number of connections to PostgreSQL that all clients share.
    """
    if PROGRAM is None:
        pytest.skip("pgbouncer is not here: apt-get install pgbouncer")
    parts = conninfo_to_dict(database_url)
    name = str(parts["dbname"])
    upstream = {key: parts[key] for key in ("host", "port", "user", "password") if parts.get(key)}
    target = " ".join(f"{key}={value}" for key, value in upstream.items())
    port = free_port()
    user, group = _owner(str(parts.get("host", "")))
    with tempfile.TemporaryDirectory(prefix="sessiond-pgbouncer-", dir="/dev/shm") as directory:
        if user is not None:
            os.chown(directory, user, -1)
        file = Path(directory) / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n{name} = {target} dbname={name}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\n"
            f"default_pool_size = {pool_size}\nmax_client_conn = 500\n"
        )
        file.chmod(0o644)
        # PgBouncer refuses to run as root.
        process = subprocess.Popen(
            [PROGRAM, "-q", str(file)],
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_ready(process, port)
            yield f"postgresql://sessiond@127.0.0.1:{port}/{name}"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
                process.wait()


def _owner(host: str) -> tuple[int | None, int | None]:
    """Return the user and group that may use a socket; None = the user and group of the tests."""
    if os.geteuid() != 0:
        return None, None
    if host.startswith("/"):
        found = Path(host).stat()
        return found.st_uid, found.st_gid
    return 65534, 65534  # nobody


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    while True:
        assert process.poll() is None, "pgbouncer ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            continue
        return
