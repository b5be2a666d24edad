"""Server reflection, from which grpcurl, ghz and buf read the contract.

grpcio-reflection answers from the generated code, which has no comments, and finds neither methods
nor enum values. This module answers from descriptors.binpb, which `make protos` makes.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

# Both versions have the same messages, so the classes of v1alpha serve both.
_VERSIONS = ("v1", "v1alpha")
_ALPHA = "grpc.reflection.v1alpha"

Answer: TypeAlias = dict[str, Any]


class NotFound(Exception):
    """The contract does not define this name."""


class Contract:
    """The descriptors of all services, found by file, symbol or extension."""

    def __init__(self, described: Iterable[FileDescriptorProto]) -> None:
        self._files = {file.name: file for file in described}
        self._encoded = {name: file.SerializeToString() for name, file in self._files.items()}
        self._symbols = {
            symbol: file.name for file in self._files.values() for symbol in _symbols(file)
        }
        self._extensions = {
            (extension.extendee.removeprefix("."), extension.number): file.name
            for file in self._files.values()
            for extension in file.extension
        }

    def services(self) -> list[str]:
        """Return the full names of the services, sorted."""
        return sorted(
            f"{file.package}.{service.name}"
            for file in self._files.values()
            for service in file.service
        )

    def file(self, name: str) -> list[bytes]:
        """Return an encoded file, followed by the files that it imports, directly or not.

        Raises:
            NotFound: if there is no such file.
        """
        if name not in self._files:
            raise NotFound(name)
        wanted, todo = [name], [name]
        while todo:
            for imported in self._files[todo.pop()].dependency:
                if imported not in wanted:
                    wanted.append(imported)
                    todo.append(imported)
        return [self._encoded[name] for name in wanted]

    def file_of_symbol(self, symbol: str) -> list[bytes]:
        """Return the file that defines a symbol, as `file` does.

        Raises:
            NotFound: if no file defines it.
        """
        return self.file(self._symbols.get(symbol, symbol))

    def file_of_extension(self, extended: str, number: int) -> list[bytes]:
        """Return the file that defines an extension, as `file` does.

        Raises:
            NotFound: if no file defines it.
        """
        return self.file(self._extensions.get((extended, number), f"{extended} {number}"))

    def extensions(self, extended: str) -> list[int]:
        """Return the numbers of a message's extensions, ascending.

        Raises:
            NotFound: if there is no such message.
        """
        if extended not in self._symbols:
            raise NotFound(extended)
        return sorted(number for name, number in self._extensions if name == extended)


@cache
def contract() -> Contract:
    """Return the contract of this server. Reading it takes milliseconds, so it is kept."""
    encoded = files("sessiond_server.rpc").joinpath("descriptors.binpb").read_bytes()
    return Contract([*FileDescriptorSet.FromString(encoded).file, *_services_of_grpc()])


def handlers() -> tuple[grpc.GenericRpcHandler, ...]:
    """Return the handlers of the reflection service, in both of its versions."""

    async def info(
        requests: AsyncIterator[pb.ServerReflectionRequest], _context: object
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        async for request in requests:
            yield _response(contract(), request)

    method = grpc.stream_stream_rpc_method_handler(
        info,
        request_deserializer=pb.ServerReflectionRequest.FromString,
        response_serializer=pb.ServerReflectionResponse.SerializeToString,
    )
    return tuple(
        grpc.method_handlers_generic_handler(
            f"grpc.reflection.{version}.ServerReflection", {"ServerReflectionInfo": method}
        )
        for version in _VERSIONS
    )


def _response(known: Contract, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
    answers: dict[str | None, Callable[[], Answer]] = {
        "list_services": lambda: {
            "list_services_response": {"service": [{"name": name} for name in known.services()]}
        },
        "file_by_filename": lambda: _described(known.file(request.file_by_filename)),
        "file_containing_symbol": lambda: _described(
            known.file_of_symbol(request.file_containing_symbol)
        ),
        "file_containing_extension": lambda: _described(
            known.file_of_extension(
                request.file_containing_extension.containing_type,
                request.file_containing_extension.extension_number,
            )
        ),
        "all_extension_numbers_of_type": lambda: {
            "all_extension_numbers_response": {
                "base_type_name": request.all_extension_numbers_of_type,
                "extension_number": known.extensions(request.all_extension_numbers_of_type),
            }
        },
    }
    kind = request.WhichOneof("message_request")
    try:
        answer = answers[kind]()
    except NotFound as e:
        answer = _error(grpc.StatusCode.NOT_FOUND, f"this server does not know {str(e)[:200]!r}")
    except KeyError:
        answer = _error(grpc.StatusCode.INVALID_ARGUMENT, "the request names nothing to look up")
    return pb.ServerReflectionResponse(valid_host=request.host, original_request=request, **answer)


def _described(encoded: list[bytes]) -> Answer:
    return {"file_descriptor_response": {"file_descriptor_proto": encoded}}


def _error(code: grpc.StatusCode, text: str) -> Answer:
    return {"error_response": {"error_code": code.value[0], "error_message": text}}


def _services_of_grpc() -> Iterator[FileDescriptorProto]:
    """Describe the services of gRPC itself; their descriptors have no comments."""
    for descriptor in (health_pb2.DESCRIPTOR, pb.DESCRIPTOR):
        file = FileDescriptorProto()
        descriptor.CopyToProto(file)
        yield file
    yield _renamed(file)


def _renamed(alpha: FileDescriptorProto) -> FileDescriptorProto:
    """Return the description of version v1 of reflection, given the description of v1alpha."""
    file = FileDescriptorProto()
    file.CopyFrom(alpha)
    file.name, file.package = "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1"
    for message in file.message_type:
        for field in message.field:
            field.type_name = field.type_name.replace(_ALPHA, file.package)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(_ALPHA, file.package)
            method.output_type = method.output_type.replace(_ALPHA, file.package)
    return file


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        yield f"{file.package}.{service.name}"
        for method in service.method:
            yield f"{file.package}.{service.name}.{method.name}"
    for extension in file.extension:
        yield f"{file.package}.{extension.name}"
    for message in file.message_type:
        yield from _symbols_of_message(message, file.package)
    for enum in file.enum_type:
        yield from _symbols_of_enum(enum, file.package)


def _symbols_of_message(message: DescriptorProto, scope: str) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield name
    for field in (*message.field, *message.extension):
        yield f"{name}.{field.name}"
    for oneof in message.oneof_decl:
        yield f"{name}.{oneof.name}"
    for nested in message.nested_type:
        yield from _symbols_of_message(nested, name)
    for enum in message.enum_type:
        yield from _symbols_of_enum(enum, name)


def _symbols_of_enum(enum: EnumDescriptorProto, scope: str) -> Iterator[str]:
    yield f"{scope}.{enum.name}"
    for value in enum.value:
        # Enum values belong to the scope that contains their enum, but tools also look for them in
        # the enum itself.
        yield f"{scope}.{value.name}"
        yield f"{scope}.{enum.name}.{value.name}"
