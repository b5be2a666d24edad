"""The gateway and requests that are no calls, servers that fail, and its own end."""

import concurrent.futures
import gzip
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond.v1 import conversation_service_pb2 as conversation_pb
from sessiond.v1.conversation_service_pb2_grpc import ConversationServiceStub
from sessiond.v1.session_service_pb2 import GetSessionRequest
from sessiond.v1.session_service_pb2_grpc import SessionServiceStub

from ..support.processes import ServerProcess
from ..support.waiting import PATIENCE_S
from .gateways import (
    connect_to,
    end_of,
    envelope,
    gateway,
    gateway_process,
    post,
    reason_of,
    stream,
)

JSON = {"content-type": "application/json"}
GZIP = {"content-encoding": "gzip"}
VERSION_2 = {"connect-protocol-version": "2"}
GET_SESSION = "/sessiond.v1.SessionService/GetSession"
GET_MESSAGES = "/sessiond.v1.SessionService/GetMessages"
IMPORT = "SessionService/ImportMessages"
WATCH = "ConversationService/Watch"
SECRET = "only-the-client-may-read-this"
PIECE = {"messages": [{"role": "ROLE_USER", "parts": {"parts": [{"text": "a"}]}}]}


@pytest.fixture
def server(start_server: Callable[..., ServerProcess], database_url: str) -> ServerProcess:
    return start_server(SESSIOND_DATABASE_URL=database_url)


@pytest.fixture
def url(server: ServerProcess, tmp_path: Path) -> Iterator[str]:
    with gateway(server.target, log=tmp_path / "gateway.log") as address:
        post(address, "SessionService/CreateSession", {"session": {"sessionId": "one"}})
        yield address


# Verb, path, headers and body; the HTTP status and the code of the error.
NO_CALLS: list[tuple[str, str, dict[str, str], bytes, int, str]] = [
    ("POST", GET_SESSION, JSON, b'{"sessionId":', 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON, b'{"sessionId": 7}', 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON, b'{"sesionId": "one"}', 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON, b'{"sessionId": "\xff"}', 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON, b'{"sessionId": "\\ud800"}', 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON, b"", 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON | GZIP, b"x", 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON | {"connect-timeout-ms": "x"}, b"{}", 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON | VERSION_2, b"{}", 400, "invalid_argument"),
    ("POST", GET_SESSION, JSON | {"x": "x" * 40_000}, b"{}", 429, "resource_exhausted"),
    ("POST", GET_SESSION, {"content-type": "text/plain"}, b"{}", 415, "invalid_argument"),
    ("POST", GET_SESSION, {}, b"{}", 415, "invalid_argument"),
    ("POST", GET_MESSAGES, JSON, b"{}", 415, "invalid_argument"),
    ("POST", "/sessiond.v1.SessionService/Nope", JSON, b"{}", 404, "unimplemented"),
    ("POST", "//" + GET_SESSION, JSON, b"{}", 404, "unimplemented"),
    ("PUT", GET_SESSION, JSON, b"{}", 405, "unimplemented"),
    ("GET", GET_SESSION, {}, b"", 400, "invalid_argument"),
    ("GET", "/sessiond.v1.SessionService/CreateSession", {}, b"", 405, "unimplemented"),
]


def test_a_request_that_is_no_call_is_answered_and_the_connection_is_kept(url: str) -> None:
    with connect_to(url) as connection:
        for verb, path, headers, body, status, code in NO_CALLS * 2:
            connection.request(verb, path, body, headers)
            response = connection.getresponse()
            error = json.load(response)
            assert (response.status, error["code"]) == (status, code), (verb, path, body)
            assert error["message"]


def test_a_large_request_that_is_refused_gets_its_error(url: str) -> None:
    """Also if the client sends all of it before it reads."""
    size = (64 << 20) + 1
    with connect_to(url) as connection:
        connection.request("POST", GET_SESSION, b" " * size, JSON)
        response = connection.getresponse()
        assert json.load(response)["code"] == "resource_exhausted"
        # Nor may a small request become large.
        connection.request("POST", GET_SESSION, gzip.compress(b" " * size), JSON | GZIP)
        assert json.load(connection.getresponse())["code"] == "resource_exhausted"


def test_a_content_type_is_read_as_http_defines_it(url: str) -> None:
    request = {"sessionId": "one"}
    for content_type in ("Application/JSON", "application/json;charset=UTF-8"):
        headers = {"content-type": content_type}
        assert post(url, "SessionService/GetSession", request, **headers)[0] == 200


def test_an_offer_of_http_2_is_not_passed_on(url: str) -> None:
    """The option --http2 of curl makes the offer."""
    offer = {
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "http2-settings": "AAMAAABk",
    }
    with connect_to(url) as connection:
        connection.request("POST", GET_SESSION, b'{"sessionId": "one"}', JSON | offer)
        assert connection.getresponse().status == 200


def test_an_import_with_a_message_that_cannot_be_read_stores_nothing(url: str) -> None:
    first = envelope({"sessionId": "one"} | PIECE)
    for rest in (
        envelope(b'{"messages": [') + envelope(PIECE),
        envelope(b'{"messages": ['),
        envelope({"messages": [{"role": 0.5}]}),
        envelope(PIECE)[:9],
    ):
        error = end_of(url, IMPORT, first + rest)["error"]
        assert (error["code"], reason_of(error)) == ("invalid_argument", "MALFORMED_REQUEST")
    # The imports have ended: this one can write, and its message is the only one.
    assert "error" not in end_of(url, IMPORT, first)
    assert post(url, "SessionService/GetSession", {"sessionId": "one"})[1]["messageCount"] == "1"


def test_the_end_of_the_server_is_the_end_of_a_stream_and_not_of_the_gateway(
    start_server: Callable[..., ServerProcess], server: ServerProcess, database_url: str, url: str
) -> None:
    with stream(url, WATCH, envelope({"sessionId": "one"})) as received:
        store(url)
        assert "events" in next(received)[1]
        server.kill()
        *_, (_, end) = received
    assert end["error"]["code"] == "unavailable"
    assert any("retryDelay" in detail["debug"] for detail in end["error"]["details"])
    start_server("--listen", server.target, SESSIOND_DATABASE_URL=database_url)
    assert post(url, "SessionService/GetSession", {"sessionId": "one"})[0] == 200


def store(url: str) -> None:
    """Store a message in the session."""
    assert post(url, "SessionService/StoreMessages", {"sessionId": "one"} | PIECE)[0] == 200


def test_a_deadline_ends_a_call_of_a_server_that_hangs(server: ServerProcess, url: str) -> None:
    server.process.send_signal(signal.SIGSTOP)
    try:
        timeout = {"connect-timeout-ms": "100"}
        status, error = post(url, "SessionService/GetSession", {"sessionId": "one"}, **timeout)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert (status, error["code"], reason_of(error)) == (
        504,
        "deadline_exceeded",
        "DEADLINE_EXCEEDED",
    )


def test_the_gateway_tells_the_readers_of_streams_that_it_stops(
    server: ServerProcess, tmp_path: Path
) -> None:
    with gateway_process(server.target, log=tmp_path / "gateway.log") as (url, process):
        post(url, "SessionService/CreateSession", {"session": {"sessionId": "one"}})
        with stream(url, WATCH, envelope({"sessionId": "one"})) as received:
            store(url)
            assert "events" in next(received)[1]
            process.terminate()
            *_, (_, end) = received
        assert (end["error"]["code"], reason_of(end["error"])) == ("unavailable", "SERVER_DRAINING")


def test_a_connection_carries_hundreds_of_streams(url: str) -> None:
    """More than 250, the default of Go's servers: a browser's tabs share a connection."""
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        watch = ConversationServiceStub(channel).Watch
        # From the beginning, because some of the calls arrive after the message was stored.
        request = conversation_pb.WatchRequest(session_id="one", after_seq=0)
        calls = [watch(request, timeout=PATIENCE_S) for _ in range(300)]
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as threads:
            firsts = [threads.submit(first_event, call) for call in calls]
            store(url)
            assert {first.result() for first in firsts} == {1}
        for call in calls:
            call.cancel()


def first_event(call: Any) -> int:
    """Return the seq of the first event of a watch."""
    return next(event.seq for response in call for event in response.events)


def test_the_log_has_no_text_of_requests(server: ServerProcess, tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with gateway(server.target, log=log) as url:
        for body in (f'{{"{SECRET}": 1}}', f'{{"sessionId": {SECRET}}}', f'{{"x": "{SECRET}'):
            end_of(url, IMPORT, envelope(body.encode()))
            with connect_to(url) as connection:
                connection.request("POST", GET_SESSION, body, JSON)
                assert connection.getresponse().status == 400
    assert SECRET not in log.read_text()


def test_clients_of_grpc_get_grpc_errors(url: str) -> None:
    """The status of an error must be in the trailers, also if its headers are sent first."""
    missing = GetSessionRequest(session_id="none")
    too_large = GetSessionRequest(session_id="x" * (64 << 20))
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        get = SessionServiceStub(channel).GetSession
        codes = {code_of(get, missing) for _ in range(100)}
        assert codes == {grpc.StatusCode.NOT_FOUND}
        # grpcio sends it as more hours than the translation takes.
        assert code_of(get, missing, timeout=1e9) == grpc.StatusCode.NOT_FOUND
        deflate = grpc.Compression.Deflate
        assert code_of(get, missing, compression=deflate) == grpc.StatusCode.UNIMPLEMENTED
        assert code_of(get, too_large) == grpc.StatusCode.RESOURCE_EXHAUSTED
        unknown = channel.unary_unary("/sessiond.v1.SessionService/Nope")
        assert code_of(unknown, b"") == grpc.StatusCode.UNIMPLEMENTED


def code_of(method: Any, request: Any, **options: Any) -> grpc.StatusCode:
    """Call a method, and return the code of its error."""
    with pytest.raises(grpc.RpcError) as refused:
        method(request, **options)
    code: grpc.StatusCode = refused.value.code()  # type: ignore[attr-defined]
    return code
