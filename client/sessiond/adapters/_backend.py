"""The base of every adapter: a client on the portal, a namespace, and ids.

An adapter is a class with the methods that its framework calls, and a Backend. Each method makes
one coroutine that calls an AsyncClient, and hands it to `run` (from async code, in any asyncio loop
or in trio) or `run_sync` (from sync code, even inside a running loop):

    class SomeStore:
        def __init__(self, *, client=None, target=None, api_key=None, namespace=None):
            self._backend = Backend(client, target, api_key, namespace)

        async def load(self, key):
            async def read(client):
                return [json_of(message) async for message in client.sessions.get_messages(id)]

            id = self._backend.session_id(key)
            return await self._backend.run(read)

Errors reach the caller as sessiond raises them. But if a framework has its own exception for a
case, the adapter raises the framework's exception `from` the one of sessiond.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeAlias, TypeVar, Unpack

from sessiond._async._client import AsyncClient
from sessiond._async._lazy import AsyncLazy
from sessiond._protocol.ids import MAX_ID as MAX_ID
from sessiond._protocol.ids import MAX_MESSAGE_ID as MAX_MESSAGE_ID
from sessiond._protocol.ids import message_id as message_id
from sessiond._protocol.ids import part as part
from sessiond._protocol.json_text import encode_or_refuse
from sessiond._protocol.settings import DEFAULT_TIMEOUT_S, ClientSettings, settings
from sessiond._requests.input import NewMessage
from sessiond._requests.options import AppendOptions
from sessiond._sync._client import Client
from sessiond._types.message import Message
from sessiond._types.session import DeletedSessions, StoredRange
from sessiond.adapters import _portal
from sessiond.errors import BatchTooLarge, SessionBusy, SessiondError, invalid_field

_Result = TypeVar("_Result")

AnyClient: TypeAlias = AsyncClient | Client
Call: TypeAlias = Callable[[AsyncClient], Coroutine[Any, Any, _Result]]

# Limits of one append. Larger appends are made as imports, which are also atomic. A server accepts
# appends of 32 MiB by default. But an operator may have set less, and above 4 MiB an import is as
# fast as an append.
MAX_BATCH_MESSAGES = 1_000
MAX_BATCH_BYTES = 4 * 1024 * 1024
MAX_NAMESPACE = 200  # characters
# Maximum number of connections that are kept open while no adapter uses them. A web server makes an
# adapter for each request; without the kept connections, each adapter would open a new one.
_IDLE_CONNECTIONS = 16


class Backend:
    """The connection and the namespace of one adapter.

    Adapters with equal settings share one connection.

    Args:
        client: a client whose settings are used: its address, API key, TLS and timeout. The adapter
            makes a connection of its own, because an AsyncClient's connection belongs to one event
            loop. So stopping the client does not stop the adapter. Not together with target or
            api_key.
        target: HOST:PORT of the server. Default: $SESSIOND_TARGET, or localhost:50051.
        api_key: the API key. Default: $SESSIOND_API_KEY, or none.
        namespace: a prefix of all session ids, at most 200 characters, which keeps the sessions
            apart from those of other namespaces. Default: no prefix.

    Raises:
        InvalidField: if an argument is malformed.
    """

    def __init__(
        self,
        client: AnyClient | None = None,
        target: str | None = None,
        api_key: str | None = None,
        namespace: str | None = None,
    ) -> None:
        if client is None:
            made = settings(target, api_key, DEFAULT_TIMEOUT_S, False, None)
        elif not isinstance(client, AsyncClient | Client):
            raise invalid_field(
                "client", f"must be a Client or an AsyncClient, not {type(client).__name__}"
            )
        elif target is not None or api_key is not None:
            other = "target" if target is not None else "api_key"
            raise invalid_field(other, "cannot be combined with client")
        else:
            made = client._connection.settings
        self.namespace = namespace
        self._prefix = "" if namespace is None else _namespace_part(namespace) + "/"
        self._connection = _connection(made)

    async def run(self, call: Call[_Result], *, settles: bool = False) -> _Result:
        """Make calls, from a task of any asyncio loop or of trio.

        Args:
            call: gets the client, on the portal's loop.
            settles: whether a cancelled caller waits until the calls have ended, so that the result
                of a change is known. Otherwise the calls are cancelled as well.

        Returns:
            The result of `call`.

        Raises:
            Exception: any error that `call` raises.
        """
        return await _portal.await_(self._work(call), settles=settles)

    def run_sync(self, call: Call[_Result]) -> _Result:
        """Make calls, and block the thread until they have ended, even inside a running loop.

        Args:
            call: gets the client, on the portal's loop.

        Returns:
            The result of `call`.

        Raises:
            Exception: any error that `call` raises.
        """
        return _portal.wait(self._work(call))

    def _work(self, call: Call[_Result]) -> _portal.Work[_Result]:
        connection = self._connection

        async def work() -> _Result:
            # Keep a reference to the connection, which is closed when its last reference is gone.
            return await call(connection.client)

        return work

    def session_id(self, session_id: str) -> str:
        """Return an id with the namespace's prefix in front.

        Raises:
            InvalidField: if the id is empty, or longer than the server allows.
        """
        if not isinstance(session_id, str) or not session_id:
            raise invalid_field("session_id", f"is {session_id!r:.60}; it must be a string")
        if len(self._prefix) + len(session_id) > MAX_ID:
            raise invalid_field(
                "session_id",
                f"has {len(session_id)} characters; with its namespace it may have {MAX_ID}",
            )
        return self._prefix + session_id

    def path(self, *parts: str) -> str:
        """Return the namespace's prefix and an id of several parts, e.g. "claude/PROJECT/SESSION".

        Different parts always give different ids. Use part() for parts that may be long.
        """
        return self._prefix + "/".join(parts)


def encoded(item: Mapping[str, Any], path: str) -> bytes:
    """Return the JSON text of an item.

    Args:
        item: the item.
        path: path of the item in the framework's call, for errors.

    Raises:
        InvalidField: if JSON cannot represent the item.
    """
    return encode_or_refuse(item, path)


def decoded(message: Message) -> dict[str, Any]:
    """Return the item that is encoded in a message.

    Unlike `message.blob`, it is a new object at each call, so the caller may change it.
    """
    return message._parsed()


async def append(
    client: AsyncClient,
    session_id: str,
    messages: Sequence[NewMessage],
    **options: Unpack[AppendOptions],
) -> StoredRange:
    """Append any number of messages of any size, all or nothing.

    Args:
        client: the client.
        session_id: the session.
        messages: one message or more, whose blobs are JSON texts (`encoded`).
        **options: as in store_messages.

    Returns:
        The seqs of the stored messages.

    Raises:
        SessiondError: as in store_messages, except BatchTooLarge.
    """
    size = sum(len(message.blob or ()) for message in messages)
    if len(messages) <= MAX_BATCH_MESSAGES and size <= MAX_BATCH_BYTES:
        try:
            return await client.sessions.store_messages(session_id, messages, **options)
        except BatchTooLarge:
            pass  # the operator has set a lower limit
    return await client.sessions.import_messages(session_id, messages, **options)


async def collected(
    messages: AsyncLazy[Message], convert: Callable[[Message], _Result]
) -> list[_Result]:
    """Read messages, and return the results of converting them.

    Messages are freed batch by batch, because 100,000 of them would slow down the garbage
    collector.
    """
    found: list[_Result] = []
    async with aclosing(messages._batches()) as batches:
        async for batch in batches:
            found.extend(map(convert, batch))
    return found


@contextmanager
def errors_as(
    errors: Mapping[type[SessiondError], Callable[[SessiondError], Exception]],
) -> Iterator[None]:
    """Raise a framework's own errors instead of sessiond's, with sessiond's as their cause.

    Args:
        errors: functions that make a framework's error, by class of sessiond's error. The first
            class that matches is used.
    """
    try:
        yield
    except SessiondError as error:
        for kind, make in errors.items():
            if isinstance(error, kind):
                raise make(error) from error
        raise


def _namespace_part(namespace: str) -> str:
    made = part(namespace, MAX_ID, "namespace")
    if len(made) > MAX_NAMESPACE:
        raise invalid_field(
            "namespace",
            f"has {len(made)} characters when percent-encoded; it may have {MAX_NAMESPACE}",
        )
    return made


class _Connection:
    """A client on the portal's loop, for all adapters with the same settings."""

    def __init__(self, settings: ClientSettings) -> None:
        self.client = AsyncClient._of(settings)
        # A bound method would keep this object alive.
        weakref.finalize(self, _portal.stop_soon, self.client.stop).atexit = False


# Reentrant, since the garbage collector may end an adapter while the lock is held.
_lock = threading.RLock()
_connections: "weakref.WeakValueDictionary[ClientSettings, _Connection]"
_connections = weakref.WeakValueDictionary()
_latest: OrderedDict[ClientSettings, _Connection] = OrderedDict()


async def _stop_all() -> None:
    for connection in list(_connections.values()):
        await connection.client.stop()


_portal.at_close.append(_stop_all)


def _connection(settings: ClientSettings) -> _Connection:
    with _lock:
        found = _connections.get(settings)
        if found is None:
            found = _connections[settings] = _Connection(settings)
        _latest[settings] = found
        _latest.move_to_end(settings)
        if len(_latest) > _IDLE_CONNECTIONS:
            _latest.popitem(last=False)
    return found


def check_all_deleted(deleted: DeletedSessions) -> None:
    """Check that a deletion by filter has kept no session.

    Raises:
        SessionBusy: if sessions were locked by others. The rest is deleted.
    """
    if deleted.locked_count:
        ids = ", ".join(deleted.locked_session_ids)
        raise SessionBusy(f"sessions that others have locked are not deleted: {ids}; try again")
