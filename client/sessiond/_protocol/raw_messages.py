"""Classes of requests and responses in which `Message.json` is bytes instead of a string.

Strings and bytes have the same encoding on the wire. The server validates and stores the JSON of
messages as bytes. Decoding each JSON to a string and encoding it again would take a quarter of the
time of an append. The JSON validation also checks UTF-8, so that an error names the message. The
client parses the JSON of received messages from bytes, and decodes it only if it is read as text.
Apart from this field, the classes equal the generated ones.
"""

from functools import cache
from typing import TypeVar, cast

from google.protobuf import descriptor_pb2, message
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from sessiond.v1 import message_pb2

_Message = TypeVar("_Message", bound=message.Message)

_MESSAGE = message_pb2.Message.DESCRIPTOR


def raw_class(descriptor: Descriptor) -> type[message.Message]:
    """Return the class of a request or response in which the `json` of messages is bytes."""
    return GetMessageClass(_pool(descriptor.file).FindMessageTypeByName(descriptor.full_name))


def raw(generated: type[_Message]) -> type[_Message]:
    """Return a class like the given generated one, but with `json` of messages as bytes."""
    return cast(type[_Message], raw_class(cast(Descriptor, generated.DESCRIPTOR)))


@cache
def _pool(file: FileDescriptor) -> DescriptorPool:
    pool = DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        copy = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(copy)
        if file.name == _MESSAGE.file.name:
            [message_type] = [one for one in copy.message_type if one.name == _MESSAGE.name]
            [field] = [one for one in message_type.field if one.name == "json"]
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
        pool.Add(copy)

    add(file)
    return pool
