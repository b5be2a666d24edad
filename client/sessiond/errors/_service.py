"""Errors of access, of the server, and of the client itself."""

import grpc

from sessiond.errors._base import SessiondError


class Unauthenticated(SessiondError):
    """The server does not know who calls."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class ApiKeyMissing(Unauthenticated):
    """The server asks for an API key and none was sent."""

    reason = "API_KEY_MISSING"


class ApiKeyInvalid(Unauthenticated):
    """The API key is unknown, malformed or revoked."""

    reason = "API_KEY_INVALID"


class PermissionDenied(SessiondError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class AdminKeyRequired(PermissionDenied):
    """The call needs an admin key."""

    reason = "ADMIN_KEY_REQUIRED"


class ResourceExhausted(SessiondError):
    """Something is used up, at the server or on the way: e.g. an answer is above the client's receive limit."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "RESOURCE_EXHAUSTED"


class Overloaded(ResourceExhausted):
    """The server has too much to do."""

    reason = "OVERLOADED"


class Unavailable(SessiondError):
    """No answer for now. A change may or may not have happened; it is safe to repeat with its request_id."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class ServerUnavailable(Unavailable):
    """No server answers at the target, or the connection broke and could not be made again."""


class DatabaseUnavailable(Unavailable):
    """The server's database does not answer."""

    reason = "DATABASE_UNAVAILABLE"


class AssetStoreUnavailable(Unavailable):
    """The store of the assets' content does not answer."""

    reason = "ASSET_STORE_UNAVAILABLE"


class ServerDraining(Unavailable):
    """The server is shutting down."""

    reason = "SERVER_DRAINING"


class WatcherTooSlow(Unavailable):
    """Events were taken more slowly than they came. Watching goes on from the last seq that came; the client does that by itself."""

    reason = "WATCHER_TOO_SLOW"


class DeadlineExceeded(SessiondError, TimeoutError):
    """The call's timeout passed. A change may or may not have happened; it is safe to repeat with its request_id. Of a wait for a turn,
    metadata["turn_id"] names the turn.
    """

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(SessiondError):
    """The call was cancelled on its way, not by this program."""

    code = grpc.StatusCode.CANCELLED
    reason = "CANCELLED"


class Unimplemented(SessiondError):
    """The server does not know the call: it is older than this client, or it is another program."""

    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "UNIMPLEMENTED"


class InternalError(SessiondError):
    """A fault of the server's own. Its log has more under the call_id."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"


class ClientClosed(SessiondError):
    """The client was closed before the call or during it; `start()` opens it again."""

    code = grpc.StatusCode.CANCELLED
    reason = "CLIENT_CLOSED"


class PoolTimeout(SessiondError, TimeoutError):
    """All sessions of the pool were on loan for as long as the caller would wait."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "POOL_TIMEOUT"


class PoolClosed(SessiondError):
    """The pool was closed before the call or during it."""

    code = grpc.StatusCode.CANCELLED
    reason = "POOL_CLOSED"
