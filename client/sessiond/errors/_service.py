"""Errors of access, of the server, and of the client itself."""

import grpc

from sessiond.errors._base import SessiondError, number_in


class Unauthenticated(SessiondError, code=grpc.StatusCode.UNAUTHENTICATED):
    """The caller is not authenticated."""


class ApiKeyMissing(Unauthenticated, reason="API_KEY_MISSING"):
    """The server requires an API key and none was sent."""


class ApiKeyInvalid(Unauthenticated, reason="API_KEY_INVALID"):
    """The API key is unknown, malformed or revoked."""


class PermissionDenied(SessiondError, code=grpc.StatusCode.PERMISSION_DENIED):
    """The caller lacks the permission for the call."""


class AdminKeyRequired(PermissionDenied, reason="ADMIN_KEY_REQUIRED"):
    """The call requires an admin key."""


class ResourceExhausted(SessiondError, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    """A limit of the server or the connection is reached.

    For example, a response exceeds the client's receive limit.
    """


class Overloaded(ResourceExhausted, reason="OVERLOADED"):
    """The server is overloaded; retry later."""


class SessionBusy(Overloaded, reason="SESSION_BUSY"):
    """The session is locked by another change, and the lock was not released in time.

    Nothing was changed. The client has retried until its deadline.
    """


class ProjectLimitReached(ResourceExhausted):
    """A limit of the project is reached."""

    @property
    def what(self) -> str:
        """Name of the limit in ProjectLimits, e.g. "max_sessions"."""
        return self.metadata.get("what", "")

    @property
    def limit(self) -> int | None:
        """The limit. None = not reported."""
        return number_in(self.metadata, "limit")

    @property
    def used(self) -> int | None:
        """How much of the limit is used, without this call. None = not reported."""
        return number_in(self.metadata, "used")


class RateLimited(ProjectLimitReached, reason="RATE_LIMITED"):
    """The project exceeds its limit of calls or of stored messages per second.

    Nothing was changed. The client has retried until its deadline.
    """


class QuotaExceeded(ProjectLimitReached, reason="QUOTA_EXCEEDED"):
    """The call would exceed a limit of the project: sessions, bytes, turns or tokens.

    Nothing was changed. The client does not retry. For turns and tokens, `retry_after` is the time
    after which a retry may succeed.
    """


class Unavailable(SessiondError, code=grpc.StatusCode.UNAVAILABLE):
    """The server or something it needs is temporarily unavailable.

    A change may or may not have happened; repeating it with the same request_id is safe.
    """


class ServerUnavailable(Unavailable):
    """The target does not respond, or the connection broke and could not be reopened."""


class DatabaseUnavailable(Unavailable, reason="DATABASE_UNAVAILABLE"):
    """The server's database does not respond."""


class AssetStoreUnavailable(Unavailable, reason="ASSET_STORE_UNAVAILABLE"):
    """The object store of the assets does not respond."""


class ServerDraining(Unavailable, reason="SERVER_DRAINING"):
    """The server is shutting down."""


class WatcherTooSlow(Unavailable, reason="WATCHER_TOO_SLOW"):
    """The watcher consumed events more slowly than they arrived.

    The client resumes by itself, after the last seq that it received.
    """


class DeadlineExceeded(SessiondError, TimeoutError, code=grpc.StatusCode.DEADLINE_EXCEEDED):
    """The call's timeout passed.

    A change may or may not have happened; repeating it with the same request_id is safe. After a
    wait for a turn, metadata["turn_id"] names the turn.
    """


class Cancelled(SessiondError, code=grpc.StatusCode.CANCELLED):
    """The call was cancelled by a proxy or the server, not by this program."""


class Unimplemented(SessiondError, code=grpc.StatusCode.UNIMPLEMENTED):
    """The server does not implement the call: it is older than this client, or not sessiond."""


class InternalError(SessiondError, code=grpc.StatusCode.INTERNAL):
    """An internal error of the server; its log has details under the call_id."""


class ClientClosed(SessiondError, code=grpc.StatusCode.CANCELLED, reason="CLIENT_CLOSED"):
    """The client was closed before or during the call; `start()` reopens it."""


class ClientForked(SessiondError, code=grpc.StatusCode.FAILED_PRECONDITION, reason="CLIENT_FORKED"):
    """An AsyncClient was open when this process was forked, so gRPC does not work in the child."""


class PoolTimeout(
    SessiondError, TimeoutError, code=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="POOL_TIMEOUT"
):
    """No session of the pool became free within the caller's timeout."""


class PoolClosed(SessiondError, code=grpc.StatusCode.CANCELLED, reason="POOL_CLOSED"):
    """The pool was closed before or during the call."""
