"""Streams that a proxy resets, with each HTTP/2 error code that proxies send."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sessiond.v1.session_service_pb2 import StoreMessagesResponse

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
ACK = END_STREAM = 1
END_HEADERS = 4
# NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, REFUSED_STREAM, CANCEL,
# ENHANCE_YOUR_CALM
CODES = (0, 1, 2, 3, 7, 8, 11)


class ResettingServer:
    """An HTTP/2 server that resets the first streams, and then answers."""

    def __init__(self, code: int, answer: bytes) -> None:
        self.resets_left = 2
        self.target = ""
        self._code = code
        self._answer = answer

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.target = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(len(PREFACE))
            writer.write(_frame(SETTINGS, 0, 0, b""))
            while True:
                head = await reader.readexactly(9)
                kind, flags = head[3], head[4]
                stream = struct.unpack(">I", head[5:9])[0]
                payload = await reader.readexactly(int.from_bytes(head[:3]))
                if kind == SETTINGS and not flags & ACK:
                    writer.write(_frame(SETTINGS, ACK, 0, b""))
                elif kind == PING and not flags & ACK:
                    writer.write(_frame(PING, ACK, 0, payload))
                elif kind == DATA and flags & END_STREAM:
                    writer.write(self._reply(stream))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _reply(self, stream: int) -> bytes:
        if self.resets_left:
            self.resets_left -= 1
            return _frame(RST_STREAM, 0, stream, struct.pack(">I", self._code))
        message = struct.pack(">BI", 0, len(self._answer)) + self._answer
        # 0x88 is `:status: 200` of HPACK's static table.
        headers = b"\x88" + _header("content-type", "application/grpc")
        return b"".join(
            (
                _frame(HEADERS, END_HEADERS, stream, headers),
                _frame(DATA, 0, stream, message),
                _frame(HEADERS, END_HEADERS | END_STREAM, stream, _header("grpc-status", "0")),
            )
        )


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """Return a header in the form that HPACK has for headers that are not indexed."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


@pytest.mark.parametrize("code", CODES)
async def test_an_append_that_a_proxy_resets_is_repeated(colour, impatient, code: int) -> None:
    answer = StoreMessagesResponse(first_seq=7, last_seq=7)
    server = ResettingServer(code, answer.SerializeToString())
    async with server.running():
        client = colour.client(server.target)
        stored = await colour.call(
            client.sessions.store_message, "s", {"role": "user", "content": "x"}
        )
        await colour.call(client.stop)
    assert (stored.last_seq, server.resets_left) == (7, 0)
