"""Requests that bring messages, with `Message.json` as bytes.

On the wire a string and bytes are the same. What a caller sends is checked and stored as bytes; as a string, each message would be decoded
and encoded again, for a quarter of the time that taking it in takes. That it is UTF-8 is checked with the JSON, so that the error names the
message. Everything else about these classes is as in the generated code.
"""

from functools import cache

from google.protobuf import descriptor_pb2, message
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from sessiond.v1 import message_pb2

_MESSAGE = message_pb2.Message.DESCRIPTOR


def raw_class(descriptor: Descriptor) -> type[message.Message]:
    """The class of a request, with `json` as bytes wherever it holds messages."""
    return GetMessageClass(_pool(descriptor.file).FindMessageTypeByName(descriptor.full_name))


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
