"""A gRPC call that does nothing, as a subject of the benchmark.

It shows what gRPC for Python costs: a server process of grpc.aio answers at once, and requests and
responses have the sizes of those of an append.
"""

import asyncio
import json
import subprocess
import sys

import grpc
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from workload import MessageDict

from sessiond.v1.message_pb2 import FORMAT_OPENAI, Message
from sessiond.v1.session_service_pb2 import StoreMessagesRequest, StoreMessagesResponse

METHOD = "/empty.Service/Call"
ANSWER = StoreMessagesResponse(
    first_seq=1000, last_seq=1000, create_time=Timestamp(seconds=1_700_000_000, nanos=123_456_000)
).SerializeToString()


class EmptyCall:
    """Calls the server process, which lives as long as the subject is open."""

    async def open(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, stdout=subprocess.PIPE
        )
        assert self._process.stdout
        port = int(await self._process.stdout.readline())
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self._call = self._channel.unary_unary(METHOD)

    @property
    def pid(self) -> int:
        """Id of the server process."""
        return self._process.pid

    async def close(self) -> None:
        await self._channel.close()
        self._process.terminate()
        await self._process.wait()

    async def create(self, session_id: str) -> None:
        """Do nothing."""

    async def append(self, session_id: str, message: MessageDict) -> None:
        request = StoreMessagesRequest(
            session_id=session_id,
            messages=[Message(format=FORMAT_OPENAI, json=json.dumps(message))],
            request_id="01234567-89ab-cdef-0123-456789abcdef",
        )
        await self._call(request.SerializeToString(), timeout=30)


async def _serve() -> None:
    async def answer(request: bytes, context: object) -> bytes:
        return ANSWER

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("empty.Service", {"Call": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve())
