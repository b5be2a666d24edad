"""The gateway's other protocols and TLS."""

import base64
import json
import re
import ssl
import struct
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc

from sessiond.v1.conversation_service_pb2 import WatchRequest, WatchResponse
from sessiond.v1.session_service_pb2 import GetMessagesRequest

from ..support.processes import ServerProcess
from .gateways import connect_to, envelope, gateway, post
from .test_programs import certificate

__all__ = ["certificate"]

TRAILERS = 0x80


def test_grpc_web_as_text_is_streamed(
    start_server: Callable[..., ServerProcess], database_url: str, tmp_path: Path
) -> None:
    """Google's grpc-web sends and reads streams as base64, in pieces that have padding."""
    server = start_server(SESSIOND_DATABASE_URL=database_url)
    headers = {"content-type": "application/grpc-web-text"}
    with gateway(server.target, log=tmp_path / "gateway.log") as url:
        post(url, "SessionService/CreateSession", {"session": {"sessionId": "one"}})
        with connect_to(url) as connection:
            watch = base64.b64encode(envelope(WatchRequest(session_id="one").SerializeToString()))
            path = "/sessiond.v1.ConversationService/Watch"
            connection.request("POST", path, watch, headers)
            response = connection.getresponse()
            assert response.getheader("content-type") == "application/grpc-web-text+proto"
            message = {"role": "ROLE_USER", "parts": {"parts": [{"text": "a"}]}}
            post(url, "SessionService/StoreMessages", {"sessionId": "one", "messages": [message]})
            text, seqs = b"", list[int]()
            while 1 not in seqs:  # The stream does not end.
                text += response.read1()
                whole = text[: len(text) // 4 * 4]
                seqs = [
                    event.seq
                    for flags, body in envelopes(whole)
                    if flags == 0
                    for event in WatchResponse.FromString(body).events
                ]
        with connect_to(url) as connection:
            none = envelope(GetMessagesRequest(session_id="none").SerializeToString())
            path = "/sessiond.v1.SessionService/GetMessages"
            connection.request("POST", path, base64.b64encode(none), headers)
            ((flags, body),) = envelopes(connection.getresponse().read())
            assert flags == TRAILERS
            assert b"Grpc-Message: SESSION_NOT_FOUND: " in body


def envelopes(text: bytes) -> list[tuple[int, bytes]]:
    """Return the envelopes that have come whole, of pieces of base64."""
    data = b"".join(base64.b64decode(piece) for piece in re.findall(rb"[^=]+=*", text))
    found = []
    while len(data) >= 5:
        flags, size = struct.unpack(">BI", data[:5])
        if len(data) < 5 + size:
            break
        found.append((flags, data[5 : 5 + size]))
        data = data[5 + size :]
    return found


def test_tls_on_both_sides(
    start_server: Callable[..., ServerProcess],
    database_url: str,
    certificate: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    cert, key = certificate
    server = start_server(
        *("--tls-cert", str(cert), "--tls-key", str(key), "--insecure"),
        SESSIOND_DATABASE_URL=database_url,
    )
    target = server.target.replace("127.0.0.1", "localhost")
    tls = ("-target-ca", str(cert), "-tls-cert", str(cert), "-tls-key", str(key))
    with gateway(target, *tls, ca=cert, log=tmp_path / "gateway.log") as url:
        request = urllib.request.Request(  # noqa: S310
            f"{url}/sessiond.v1.SessionService/ListSessions",
            b"{}",
            {"content-type": "application/json"},
        )
        trusted = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(request, context=trusted) as response:  # noqa: S310
            assert json.load(response)["sessions"] == []
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        with grpc.secure_channel(url.removeprefix("https://"), credentials) as channel:
            method = channel.unary_unary("/sessiond.v1.SessionService/ListSessions")
            assert method(b"", timeout=60) == b""
