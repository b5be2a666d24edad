"""ProcessingService on the wire."""

from sessiond.v1.processing_service_pb2 import (
    AcknowledgeMessagesRequest,
    AcknowledgeMessagesResponse,
    DeleteQueueRequest,
    DeleteQueueResponse,
    ExtendLeaseRequest,
    GetProcessingCountsRequest,
    Lease,
    LeaseMessagesRequest,
    LeaseMessagesResponse,
    ListFailedMessagesRequest,
    ListFailedMessagesResponse,
    ListQueuesRequest,
    ListQueuesResponse,
    ProcessingCounts,
    RequeueMessagesRequest,
    RequeueMessagesResponse,
)
from sessiond_server.service.keys import Caller
from sessiond_server.service.processing import Processing

# Method names are those of the protos.
# ruff: noqa: N802


class ProcessingServicer:
    """The methods of ProcessingService, as calls.Servicer has them."""

    needs_admin = False

    def __init__(self, processing: Processing) -> None:
        self._processing = processing

    async def LeaseMessages(self, request: LeaseMessagesRequest, caller: Caller) -> LeaseMessagesResponse:
        raise NotImplementedError

    async def ExtendLease(self, request: ExtendLeaseRequest, caller: Caller) -> Lease:
        raise NotImplementedError

    async def AcknowledgeMessages(self, request: AcknowledgeMessagesRequest, caller: Caller) -> AcknowledgeMessagesResponse:
        raise NotImplementedError

    async def RequeueMessages(self, request: RequeueMessagesRequest, caller: Caller) -> RequeueMessagesResponse:
        raise NotImplementedError

    async def GetProcessingCounts(self, request: GetProcessingCountsRequest, caller: Caller) -> ProcessingCounts:
        raise NotImplementedError

    async def ListFailedMessages(self, request: ListFailedMessagesRequest, caller: Caller) -> ListFailedMessagesResponse:
        raise NotImplementedError

    async def ListQueues(self, request: ListQueuesRequest, caller: Caller) -> ListQueuesResponse:
        raise NotImplementedError

    async def DeleteQueue(self, request: DeleteQueueRequest, caller: Caller) -> DeleteQueueResponse:
        raise NotImplementedError
