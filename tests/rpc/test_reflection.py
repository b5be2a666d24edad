"""Reflection: grpcurl, ghz and buf read the contract from a server."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from sessiond_server.rpc.services import SERVICES
from sessiond_server.server import Running

VERSIONS = ("v1", "v1alpha")
# `go install` puts its programs there.
PATH = Path.home() / "go" / "bin"
BUF = str(Path(sys.executable).with_name("buf"))
GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(PATH))
GHZ = shutil.which("ghz") or shutil.which("ghz", path=str(PATH))


async def ask(
    channel: grpc.aio.Channel, version: str = "v1", **question: object
) -> pb.ServerReflectionResponse:
    """Return the server's answer to one question."""
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    request = pb.ServerReflectionRequest(**question)  # type: ignore[arg-type]
    [answer] = [answer async for answer in method(iter([request]))]
    return answer


async def described(channel: grpc.aio.Channel, symbol: str) -> list[FileDescriptorProto]:
    answer = await ask(channel, file_containing_symbol=symbol)
    assert not answer.HasField("error_response"), answer.error_response
    encoded = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file) for file in encoded]


def commented(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield the full name of everything in a file, with its comment."""
    comments = {
        tuple(location.path): location.leading_comments
        for location in file.source_code_info.location
    }

    def message_parts(message: DescriptorProto, at: tuple[int, ...], scope: str):  # type: ignore[no-untyped-def]
        name = f"{scope}.{message.name}"
        yield name, comments.get(at, "")
        for i, field in enumerate(message.field):
            yield f"{name}.{field.name}", comments.get((*at, 2, i), "")

    for i, service in enumerate(file.service):
        yield f"{file.package}.{service.name}", comments.get((6, i), "")
        for j, method in enumerate(service.method):
            name = f"{file.package}.{service.name}.{method.name}"
            yield name, comments.get((6, i, 2, j), "")
    for i, message in enumerate(file.message_type):
        yield from message_parts(message, (4, i), file.package)
    for i, enum in enumerate(file.enum_type):
        yield f"{file.package}.{enum.name}", comments.get((5, i), "")
        for j, value in enumerate(enum.value):
            name = f"{file.package}.{enum.name}.{value.name}"
            yield name, comments.get((5, i, 2, j), "")


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_versions_list_every_service(channel: grpc.aio.Channel, version: str) -> None:
    answer = await ask(channel, version, list_services="")
    assert {service.name for service in answer.list_services_response.service} == {
        *(service.full_name for service in SERVICES),
        "grpc.health.v1.Health",
        *(f"grpc.reflection.{version}.ServerReflection" for version in VERSIONS),
    }


async def test_every_symbol_is_found_with_its_comment(channel: grpc.aio.Channel) -> None:
    seen: set[str] = set()
    for service in SERVICES:
        files = await described(channel, service.full_name)
        seen |= {file.name for file in files if file.package == "sessiond.v1"}
    seen.add("sessiond/v1/error_reason.proto")
    assert len(seen) == len(list((Path(__file__).parents[2] / "protos/sessiond/v1").iterdir()))
    for name in sorted(seen):
        answer = await ask(channel, file_by_filename=name)
        [encoded, *_] = answer.file_descriptor_response.file_descriptor_proto
        file = FileDescriptorProto.FromString(encoded)
        for symbol, comment in commented(file):
            assert comment.strip(), f"{symbol} has no comment"
            [first, *_] = await described(channel, symbol)
            assert first.name == name, symbol


@pytest.mark.parametrize(
    "symbol",
    [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest.FieldViolation",
        "google.rpc.RetryInfo",
        "google.rpc.Status",
        "grpc.health.v1.Health.Check",
        "grpc.reflection.v1.ServerReflection.ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection",
        "sessiond.v1.ROLE_USER",
        "google.api.field_behavior",
    ],
)
async def test_what_the_contract_refers_to_is_found_with_its_imports(
    channel: grpc.aio.Channel, symbol: str
) -> None:
    files = await described(channel, symbol)
    names = {file.name for file in files}
    assert all(set(file.dependency) <= names for file in files)


async def test_extensions_are_found(channel: grpc.aio.Channel) -> None:
    options = "google.protobuf.FieldOptions"
    answer = await ask(channel, all_extension_numbers_of_type=options)
    [number] = answer.all_extension_numbers_response.extension_number
    extension = {"containing_type": options, "extension_number": number}
    found = await ask(channel, file_containing_extension=extension)
    [encoded, *_] = found.file_descriptor_response.file_descriptor_proto
    assert FileDescriptorProto.FromString(encoded).name == "google/api/field_behavior.proto"


@pytest.mark.parametrize(
    "question",
    [
        {"file_by_filename": "no/such.proto"},
        {"file_containing_symbol": "sessiond.v1.NoSuch"},
        {"file_containing_extension": {"containing_type": "x", "extension_number": 1}},
        {"all_extension_numbers_of_type": "sessiond.v1.NoSuch"},
    ],
)
async def test_unknown_names_are_not_found(
    channel: grpc.aio.Channel, question: dict[str, object]
) -> None:
    answer = await ask(channel, **question)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert answer.original_request == pb.ServerReflectionRequest(**question)  # type: ignore[arg-type]


async def test_a_question_without_content_is_invalid(channel: grpc.aio.Channel) -> None:
    answer = await ask(channel)
    assert answer.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed


@pytest.mark.skipif(not GRPCURL, reason="grpcurl is not installed")
@pytest.mark.parametrize(
    ("symbol", "comment"),
    [
        ("sessiond.v1.SessionService", "// SessionService keeps conversations"),
        ("sessiond.v1.SessionService.GetMessages", "// GetMessages streams"),
        ("sessiond.v1.Session", "// last_seq is the seq of the newest message"),
        ("sessiond.v1.ErrorReason", "// NOT_FOUND: the project has no such session"),
        ("sessiond.v1.Role.ROLE_USER", "// The person or program"),
        ("google.rpc.ErrorInfo", "// The reason of the error"),
    ],
)
async def test_grpcurl_describes_with_comments(server: Running, symbol: str, comment: str) -> None:
    assert GRPCURL
    printed = await run(GRPCURL, "-plaintext", f"127.0.0.1:{server.port}", "describe", symbol)
    assert comment in printed


@pytest.mark.skipif(not GHZ, reason="ghz is not installed")
async def test_ghz_calls_by_reflection(server: Running) -> None:
    assert GHZ
    printed = await run(
        GHZ,
        *("--insecure", "-n", "5", "-c", "1", "--call", "sessiond.v1.SessionService/ListSessions"),
        *("-d", "{}", f"127.0.0.1:{server.port}"),
    )
    assert "[OK]" in printed


async def test_buf_curl_shows_the_reason(server: Running) -> None:
    # buf prints error details as base64, because it knows only the types of its own build.
    process = await asyncio.create_subprocess_exec(
        *(BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", '{"sessionId": "x"}'),
        f"http://127.0.0.1:{server.port}/sessiond.v1.SessionService/GetSession",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed = json.loads((await process.communicate())[0])
    assert printed["message"] == "SESSION_NOT_FOUND: there is no session 'x'"
    assert [detail["type"] for detail in printed["details"]] == ["google.rpc.ErrorInfo"]
