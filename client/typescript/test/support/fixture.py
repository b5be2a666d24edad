"""Runs servers and proxies for the TypeScript tests, which ask for them over a socket.

Each request is a line of JSON, and so is its response. When a connection is closed, the servers and
proxies that it has started are ended. The process ends when its standard input is closed. It prints
the port that it listens on.
"""

import contextlib
import json
import os
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sessiond_server.db import migrate
from sessiond_server.embedded import EmbeddedPostgres
from tests.conftest import NOT_DURABLE
from tests.support.databases import as_url
from tests.support.processes import ServerProcess
from tests.support.proxy import CuttingProxy

ROOT = Path(tempfile.mkdtemp(prefix="sessiond-ts-"))


class Fixture:
    """The PostgreSQL, and the server that all tests share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._postgres: EmbeddedPostgres | None = None
        self._conninfo = ""
        self._template = ""
        self._shared: ServerProcess | None = None

    def database(self) -> str:
        """Return the URL of a new database with the schema."""
        with self._lock:
            if self._postgres is None:
                self._postgres = EmbeddedPostgres(ROOT / "data", tuning=NOT_DURABLE)
                self._postgres.start()
                self._conninfo = make_conninfo(self._postgres.database_url, dbname="postgres")
                self._template = self._create(None)
                migrate.upgrade(self._url(self._template))
            return self._url(self._create(self._template))

    def shared(self) -> str:
        """Return the address of the shared server."""
        if self._shared is None:
            url = self.database()
            self._shared = start([], {"SESSIOND_DATABASE_URL": url})
        return self._shared.target

    def close(self) -> None:
        if self._shared:
            self._shared.end()
        if self._postgres:
            self._postgres.stop()
        shutil.rmtree(ROOT, ignore_errors=True)

    def _create(self, template: str | None) -> str:
        name = f"ts_{uuid.uuid4().hex[:12]}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template:
            statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            connection.execute(statement)
        return name

    def _url(self, name: str) -> str:
        return as_url(make_conninfo(self._conninfo, dbname=name))


def start(flags: list[str], environment: dict[str, str]) -> ServerProcess:
    """Start a server, and wait until it serves."""
    log = ROOT / f"server-{uuid.uuid4().hex[:8]}.log"
    defaults = {"SESSIOND_PURGE_INTERVAL_S": "3600", "SESSIOND_TOKENIZER": "estimate"}
    process = ServerProcess(flags, defaults | environment, log)
    try:
        process.wait_until_ready()
    except AssertionError:
        process.end()
        raise
    return process


FIXTURE = Fixture()


class Handler(socketserver.StreamRequestHandler):
    """One test file."""

    def handle(self) -> None:
        self.servers: dict[str, ServerProcess] = {}
        self.proxies: dict[str, CuttingProxy] = {}
        with contextlib.ExitStack() as self.stack:
            for line in self.rfile:
                try:
                    answer = self.do(json.loads(line))
                except Exception as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

    def do(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request says, and return its response."""
        match request["do"]:
            case "shared":
                return {"target": FIXTURE.shared()}
            case "database":
                return {"url": FIXTURE.database()}
            case "server":
                return self.start_server(request["flags"], request["environment"])
            case "end":
                server = self.servers[request["id"]]
                if request["how"] == "kill":
                    server.kill()
                else:
                    server.terminate()
                return {}
            case "proxy":
                return self.start_proxy(request["target"], request["cuts"], request["upwards"])
            case "counts":
                proxy = self.proxies[request["id"]]
                return {"connections": proxy.connections, "cuts": proxy.cuts_made}
            case "command":
                return self.command(request["arguments"], request["environment"])
            case other:
                raise ValueError(f"there is no {other}")

    def start_server(self, flags: list[str], environment: dict[str, str]) -> dict[str, Any]:
        server = start(flags, environment)
        self.stack.callback(server.end)
        key = str(len(self.servers))
        self.servers[key] = server
        return {"id": key, "target": server.target, "log": str(server.log)}

    def start_proxy(self, target: str, cuts: list[int], upwards: bool) -> dict[str, Any]:
        proxy = self.stack.enter_context(CuttingProxy(target, cuts, upwards=upwards))
        key = str(len(self.proxies))
        self.proxies[key] = proxy
        return {"id": key, "target": proxy.target}

    def command(self, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
        """Run `sessiond` with arguments."""
        done = subprocess.run(
            [sys.executable, "-m", "sessiond_server", *arguments],
            env={k: v for k, v in os.environ.items() if not k.startswith("SESSIOND_")}
            | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return {"output": done.stdout}


class Orders(socketserver.ThreadingTCPServer):
    """Takes the connections of the test files."""

    daemon_threads = False
    block_on_close = True


def main() -> None:
    with Orders(("127.0.0.1", 0), Handler) as orders:
        threading.Thread(target=orders.serve_forever, daemon=True).start()
        print(orders.server_address[1], flush=True)
        sys.stdin.read()
        orders.shutdown()
    FIXTURE.close()


if __name__ == "__main__":
    main()
