"""Projects and API keys, and who a caller is."""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.core import pagination
from sessiond_server.core.errors import Fault, invalid
from sessiond_server.core.ids import DEFAULT_PROJECT_ID, check_text, project_id_of
from sessiond_server.core.limits import MAX_NAME_CHARACTERS
from sessiond_server.core.pagination import Page, Paging
from sessiond_server.projects.store import KeyRow, KeyStore, ProjectRow

_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
# A key reads sk-sessiond-ID-SECRET: scanners of leaked secrets can find it, logs may show the ID.
_KEY = re.compile(r"sk-sessiond-([0-9a-z]{16})-([0-9A-Za-z_-]{43})")
_CACHED_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a project, and whether AdminService is theirs. key_id is None without a key."""

    project_id: UUID
    is_admin: bool
    key_id: str | None


# Without keys, whoever reaches the server (loopback only, unless it was told otherwise) is its operator.
ANONYMOUS = Caller(DEFAULT_PROJECT_ID, is_admin=True, key_id=None)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, and the only copy of its secret."""

    key: KeyRow
    secret: str


class Authenticator:
    """Finds the caller of a key. Answers are kept for cache_s seconds, so a revoked key works that much longer.

    Args:
        require_keys: refuse calls without a key. A key that is sent is checked either way.
    """

    def __init__(self, store: KeyStore, *, require_keys: bool, cache_s: float) -> None:
        self._store = store
        self._require_keys = require_keys
        self._cache_s = cache_s
        self._known: dict[bytes, tuple[float, Caller | None]] = {}

    async def caller(self, authorization: str | None) -> Caller:
        """The caller of an `authorization` header. Raises: Fault API_KEY_MISSING, API_KEY_INVALID."""
        if not authorization:
            if self._require_keys:
                raise Fault(
                    "API_KEY_MISSING",
                    "this server asks for a key: send `authorization: Bearer KEY`",
                )
            return ANONYMOUS
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise _bad_key()
        # The cache holds hashes, so that a dump of memory holds no keys.
        digest = _hash(secret)
        now = time.monotonic()
        known = self._known.get(digest)
        if known is None or known[0] < now:
            known = (now + self._cache_s, await self._find(secret, digest))
            if len(self._known) >= _CACHED_KEYS:
                self._known.clear()
            self._known[digest] = known
        if known[1] is None:
            raise _bad_key()
        return known[1]

    async def _find(self, secret: str, digest: bytes) -> Caller | None:
        match = _KEY.fullmatch(secret)
        row = await self._store.key(match[1]) if match else None
        if (
            row is None
            or row.revoked_at is not None
            or not hmac.compare_digest(row.secret_hash, digest)
        ):
            return None
        return Caller(row.project_id, row.is_admin, row.key_id)


class Keys:
    """The rules of projects and keys."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def create_project(self, name: str) -> ProjectRow:
        """Raises: Fault INVALID_FIELD, PROJECT_ALREADY_EXISTS."""
        row = await self._store.create_project(
            project_id_of(_check_name(name, "project.name")), name
        )
        if row is None:
            raise Fault(
                "PROJECT_ALREADY_EXISTS",
                f"there is a project {name!r} already",
                metadata={"project": name},
            )
        return row

    async def list_projects(self, page_size: int, page_token: str) -> Page[ProjectRow]:
        """A page and the token of the next one. Raises: Fault INVALID_FIELD, INVALID_PAGE_TOKEN."""
        paging = Paging(page_size, page_token, ["projects"], pagination.text)
        rows = await self._store.list_projects(
            paging.after[0] if paging.after else "", paging.size + 1
        )
        return paging.page(rows, lambda row: [row.name])

    async def create_key(
        self, project: str, *, label: str = "", is_admin: bool = False, create_project: bool = False
    ) -> NewKey:
        """A new key of a project, which with create_project is made where it is missing.

        Raises: Fault INVALID_FIELD, PROJECT_NOT_FOUND.
        """
        _check_name(project, "project")
        check_text("label", label, MAX_NAME_CHARACTERS)
        if create_project:
            await self._store.create_project(project_id_of(project), project)
        row = await self._project(project)
        key_id = secrets.token_hex(8)
        secret = f"sk-sessiond-{key_id}-{secrets.token_urlsafe(32)}"
        key = await self._store.create_key(key_id, row.project_id, _hash(secret), label, is_admin)
        assert key is not None  # noqa: S101 - keys are never deleted
        return NewKey(key, secret)

    async def list_keys(self, project: str) -> list[KeyRow]:
        """Raises: Fault INVALID_FIELD, PROJECT_NOT_FOUND."""
        _check_name(project, "project")
        return await self._store.list_keys((await self._project(project)).project_id)

    async def revoke_key(self, key_id: str) -> KeyRow:
        """Raises: Fault INVALID_FIELD, API_KEY_NOT_FOUND."""
        if not key_id:
            raise invalid("key_id", "is required")
        check_text("key_id", key_id, MAX_NAME_CHARACTERS)
        row = await self._store.revoke(key_id)
        if row is None:
            raise Fault(
                "API_KEY_NOT_FOUND", f"there is no key {key_id!r}", metadata={"key_id": key_id}
            )
        return row

    async def _project(self, name: str) -> ProjectRow:
        row = await self._store.project(name)
        if row is None:
            raise Fault(
                "PROJECT_NOT_FOUND", f"there is no project {name!r}", metadata={"project": name}
            )
        return row


def _check_name(name: str, field: str) -> str:
    if not _PROJECT_NAME.fullmatch(name):
        raise invalid(
            field, "is 1 to 64 characters of a-z, 0-9, '-' and '_', the first a letter or digit"
        )
    return name


def _hash(secret: str) -> bytes:
    # Fast on purpose: 256 random bits cannot be guessed, so there is nothing to slow down.
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _bad_key() -> Fault:
    return Fault(
        "API_KEY_INVALID",
        "the key is unknown, malformed or revoked; send `authorization: Bearer KEY`",
    )
