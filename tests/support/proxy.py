"""A TCP proxy that cuts connections after given numbers of bytes."""

import asyncio
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self


class CuttingProxy:
    """Relays between clients and a server. It runs in a thread, so a sync client can use it, too.

    Args:
        target: HOST:PORT of the server.
        cuts: after each of these numbers of bytes from the server, all connections are cut, and the
            count restarts at 0. After the last cut, connections are kept.
        upwards: whether to count the bytes from the clients instead.

    Attributes:
        target: HOST:PORT of the proxy.
        connections: number of connections so far.
        cuts_made: number of cuts so far.
    """

    def __init__(self, target: str, cuts: Sequence[int] = (), *, upwards: bool = False) -> None:
        host, _, port = target.rpartition(":")
        self._upstream = (host, int(port))
        self._cuts = list(cuts)
        self._upwards = upwards
        self._sent = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self.target = ""
        self.connections = 0
        self.cuts_made = 0

    def __enter__(self) -> Self:
        self._thread.start()
        port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        self.target = f"127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        self._server.close()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.ensure_future(self._relay(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _relay(
        self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self._clients.add(client)
        server: asyncio.StreamWriter | None = None
        try:
            server_reader, server = await asyncio.open_connection(*self._upstream)
            up = asyncio.ensure_future(self._copy(client_reader, server, counted=self._upwards))
            down = asyncio.ensure_future(
                self._copy(server_reader, client, counted=not self._upwards)
            )
            try:
                await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        except OSError:
            pass  # the server is away: closing the connection shows it to the client
        finally:
            self._clients.discard(client)
            for end in (client, server):
                if end:
                    end.close()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> None:
        while data := await reader.read(65536):
            if counted:
                if self._cuts and self._sent + len(data) >= self._cuts[0]:
                    writer.write(data[: self._cuts[0] - self._sent])
                    self._cut()
                    return
                self._sent += len(data)
            writer.write(data)
            await writer.drain()

    def cut(self) -> None:
        """Cut all connections now."""
        self._loop.call_soon_threadsafe(self._cut)

    def stop_listening(self) -> None:
        """Accept no more connections, and cut the open ones."""
        self._loop.call_soon_threadsafe(self._server.close)
        self.cut()

    def _cut(self) -> None:
        """Cut all connections: alternately with FIN, after the written data, and with RST."""
        if self._cuts:
            self._cuts.pop(0)
        self._sent = 0
        self.cuts_made += 1
        for client in list(self._clients):
            if self.cuts_made % 2:
                client.close()
            else:
                client.transport.abort()
