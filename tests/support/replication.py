"""A primary, its synchronous standby, and HAProxy in front of both, as separate processes."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from sessiond_server.db import migrate
from sessiond_server.embedded.cluster import _binaries
from sessiond_server.embedded.system_user import system_user

from .processes import free_port
from .waiting import PATIENCE_S, until

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


class Replicated:
    """Two PostgreSQLs. The second replicates the commits of the first.

    Attributes:
        ports: the ports of the primary and of the standby.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._user = system_user() if os.geteuid() == 0 else None
        self.ports = (free_port(), free_port())

    def start(self) -> None:
        """Create and start both."""
        primary, standby = self._clusters()
        self._call("initdb", "-D", str(primary), "-U", "sessiond", "-A", "trust", "--no-sync")
        self._run(0)
        with self.connect(0, "postgres") as connection:
            connection.execute("CREATE DATABASE sessiond")
        migrate.upgrade(self.url(0))
        self._call(
            "pg_basebackup", "-D", str(standby), "-R", "-X", "stream", "--checkpoint=fast",
            "-h", "127.0.0.1", "-p", str(self.ports[0]), "-U", "sessiond", "--no-sync",
        )  # fmt: skip
        self._run(1)
        with self.connect(0) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            until(
                lambda: (
                    connection.execute(
                        "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
                    ).fetchone()
                    is not None
                ),
                "the standby is synchronous",
            )

    def fail_over(self) -> None:
        """Make the primary read-only, as its operator would, and promote the standby."""
        with self.connect(0) as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
            # Transactions that began before the setting changed may still write.
            until(
                lambda: (
                    connection.execute(
                        "SELECT 1 FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
                    ).fetchone()
                    is None
                ),
                "all writes have ended",
            )
            [position] = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or [None]
        with self.connect(1) as connection:
            until(
                lambda: (
                    connection.execute(
                        "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]
                    ).fetchone()
                    == (True,)
                ),
                "the standby has all",
            )
            connection.execute("SELECT pg_promote()")

    def stop(self) -> None:
        for cluster in self._clusters():
            if (cluster / "postmaster.pid").exists():
                self._call("pg_ctl", "stop", "-m", "immediate", "-D", str(cluster))

    def url(self, number: int) -> str:
        return f"postgresql://sessiond@127.0.0.1:{self.ports[number]}/sessiond"

    def connect(self, number: int, name: str = "sessiond") -> psycopg.Connection:
        """Connect to one of the two; the connection can write even if the default is read-only."""
        return psycopg.connect(
            f"postgresql://sessiond@127.0.0.1:{self.ports[number]}/{name}",
            autocommit=True,
            options="-c default_transaction_read_only=off",
        )

    def _clusters(self) -> tuple[Path, Path]:
        return self._directory / "primary", self._directory / "standby"

    def _run(self, number: int) -> None:
        cluster = self._clusters()[number]
        self._call(
            "pg_ctl", "start", "-w", "-D", str(cluster), "-l", str(cluster / "server.log"),
            "-o", f"-p {self.ports[number]} -k '' -c listen_addresses=127.0.0.1 -c fsync=off",
        )  # fmt: skip

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(_binaries() / program), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
            start_new_session=True,
        )


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Run a primary and its standby."""
    user = system_user() if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="sessiond-replicated-", dir="/dev/shm") as directory:
        if user:
            os.chown(directory, user.uid, user.gid)
        made = Replicated(Path(directory))
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def haproxy(ports: tuple[int, ...], *, silence: str = "1h") -> Iterator[int]:
    """Run HAProxy, which spreads connections over ports, and yield its own port.

    Args:
        ports: ports of this machine.
        silence: how long a connection may be silent, such as "10s".
    """
    if HAPROXY is None:
        pytest.skip("haproxy is not here: apt-get install haproxy")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="sessiond-haproxy-") as directory:
        file = Path(directory) / "haproxy.cfg"
        servers = "\n".join(f"  server s{n} 127.0.0.1:{p} check" for n, p in enumerate(ports))
        file.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n"
            f"  timeout client {silence}\n  timeout server {silence}\n"
            f"listen all\n  bind 127.0.0.1:{port}\n  balance roundrobin\n{servers}\n"
        )
        process = subprocess.Popen([HAPROXY, "-q", "-db", "-f", str(file)])
        try:
            until(lambda: _answers(port), "haproxy answers")
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _answers(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
