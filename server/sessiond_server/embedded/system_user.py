"""The system user for PostgreSQL if sessiond runs as root: PostgreSQL refuses to run as root."""

import fcntl
import os
import shutil
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from sessiond_server.embedded.errors import EmbeddedError

SYSTEM_USER = "sessiond"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SystemUser:
    """Ids of a user and of the user's group."""

    uid: int
    gid: int


def system_user() -> SystemUser:
    """Return the user that PostgreSQL runs as. It is created on the first start on a machine.

    Raises:
        EmbeddedError: if the user does not exist and cannot be created.
    """
    if found := _existing_user():
        return found
    useradd = shutil.which("useradd")
    if useradd is None:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and there is no useradd to create the user "
            f"{SYSTEM_USER!r}: run sessiond as another user, or set SESSIOND_DATABASE_URL"
        )
    # Concurrent calls of useradd can overwrite each other's entries, so sessiond processes take
    # turns.
    directory = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if found := _existing_user():
            return found
        done = subprocess.run(  # noqa: S603
            [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=False,
            capture_output=True,
            text=True,
        )
        created = _existing_user()
    finally:
        os.close(directory)
    if created is None:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and useradd cannot create the user "
            f"{SYSTEM_USER!r} ({done.stderr.strip()}): run sessiond as another user, "
            "or set SESSIOND_DATABASE_URL"
        )
    log.info("system_user_created", user=SYSTEM_USER)
    return created


def _existing_user() -> SystemUser | None:
    import pwd  # missing on some platforms on which the client runs

    with suppress(KeyError):
        entry = pwd.getpwnam(SYSTEM_USER)
        return SystemUser(entry.pw_uid, entry.pw_gid)
    return None


def name_of(uid: int) -> str:
    """Return the name of a user, or the user's number if the user has no name."""
    import pwd  # missing on some platforms on which the client runs

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def let_through(path: Path) -> None:
    """Let other users traverse, but not list, the directories on the way to a path."""
    for directory in (path, *path.parents):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)
            log.warning("directory_made_traversable", directory=str(directory))
