"""The responses of a fake server to BatchStoreMessages."""

from typing import Any

from google.rpc.status_pb2 import Status

from sessiond import AsyncClient
from sessiond.v1.session_service_pb2 import (
    BatchStoreMessagesRequest,
    BatchStoreMessagesResponse,
    BatchStoreMessagesResult,
    StoreMessagesResponse,
)

from .conftest import Abort

HELLO = {"role": "user", "content": "hello"}
STORED = StoreMessagesResponse(first_seq=1, last_seq=1)


def waiting(client: AsyncClient) -> list[Any]:
    """The appends of a client that are not sent yet."""
    return client._connection.stubs.appends._waiting


def result(index: int, refused: Abort | None = None) -> BatchStoreMessagesResult:
    if refused is None:
        return BatchStoreMessagesResult(
            index=index, response=StoreMessagesResponse(first_seq=index + 10, last_seq=index + 10)
        )
    error = Status(code=refused.code.value[0], message=refused.text)
    for detail in refused.details:
        error.details.add().Pack(detail)
    return BatchStoreMessagesResult(index=index, error=error)


class Answers:
    """A step that returns, for each request of a batch, the Abort of its session, or success."""

    def __init__(self, **aborts: Abort) -> None:
        self.aborts = aborts

    async def __call__(
        self, request: BatchStoreMessagesRequest, context: Any
    ) -> list[BatchStoreMessagesResponse]:
        return [
            BatchStoreMessagesResponse(
                results=[
                    result(i, self.aborts.get(one.session_id))
                    for i, one in reversed(list(enumerate(request.requests)))
                ]
            )
        ]


answered = Answers()
