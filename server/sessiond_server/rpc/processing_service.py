"""ProcessingService: converts requests, calls the features, converts responses."""

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
    ProcessingFailure,
    RequeueMessagesRequest,
    RequeueMessagesResponse,
    SeqRange,
)
from sessiond_server.projects.authentication import Caller
from sessiond_server.queues.service import (
    LeaseRequest,
    Processing,
    RequeueSelector,
    encode_lease_id,
)
from sessiond_server.queues.store.rows import Leased
from sessiond_server.rpc import conversions

# Methods are named as in the protos.
# ruff: noqa: N802


class ProcessingServicer:
    """The methods of ProcessingService; see handlers.Servicer."""

    needs_admin = False

    def __init__(self, processing: Processing) -> None:
        self._processing = processing

    async def LeaseMessages(
        self, request: LeaseMessagesRequest, caller: Caller
    ) -> LeaseMessagesResponse:
        ask = LeaseRequest(
            queue=request.queue,
            worker=request.worker,
            max_sessions=request.max_sessions,
            max_messages=request.max_messages,
            lease_ms=conversions.milliseconds(request.lease_duration)
            if request.HasField("lease_duration")
            else None,
            wait_ms=conversions.milliseconds(request.wait) if request.HasField("wait") else None,
        )
        return LeaseMessagesResponse(
            leases=[_lease(lease) for lease in await self._processing.lease(caller.project_id, ask)]
        )

    async def ExtendLease(self, request: ExtendLeaseRequest, caller: Caller) -> Lease:
        lease_ms = (
            conversions.milliseconds(request.lease_duration)
            if request.HasField("lease_duration")
            else None
        )
        return _lease(await self._processing.extend(caller.project_id, request.lease_id, lease_ms))

    async def AcknowledgeMessages(
        self, request: AcknowledgeMessagesRequest, caller: Caller
    ) -> AcknowledgeMessagesResponse:
        await self._processing.acknowledge(
            caller.project_id,
            request.lease_id,
            request.through_seq if request.HasField("through_seq") else None,
            [(failure.seq, failure.error) for failure in request.failures],
            keep_lease=request.keep_lease,
            request_id=request.request_id,
        )
        return AcknowledgeMessagesResponse()

    async def RequeueMessages(
        self, request: RequeueMessagesRequest, caller: Caller
    ) -> RequeueMessagesResponse:
        chosen = request.WhichOneof("which")
        which = RequeueSelector(
            failed=request.failed if chosen == "failed" else None,
            from_seq=request.from_seq if chosen == "from_seq" else None,
            seqs=request.seqs.seqs if chosen == "seqs" else None,
        )
        count = await self._processing.requeue(
            caller.project_id, request.queue, request.session_id, which, request.request_id
        )
        return RequeueMessagesResponse(message_count=count)

    async def GetProcessingCounts(
        self, request: GetProcessingCountsRequest, caller: Caller
    ) -> ProcessingCounts:
        counts = await self._processing.counts(caller.project_id, request.queue, request.session_id)
        return ProcessingCounts(
            pending=counts.pending,
            running=counts.running,
            success=counts.success,
            failed=counts.failed,
        )

    async def ListFailedMessages(
        self, request: ListFailedMessagesRequest, caller: Caller
    ) -> ListFailedMessagesResponse:
        page = await self._processing.failures(
            caller.project_id,
            request.queue,
            request.session_id,
            request.page_size,
            request.page_token,
        )
        return ListFailedMessagesResponse(
            failures=[ProcessingFailure(seq=seq, error=error) for seq, error in page.items],
            next_page_token=page.next_page_token,
        )

    async def ListQueues(self, request: ListQueuesRequest, caller: Caller) -> ListQueuesResponse:
        return ListQueuesResponse(queues=await self._processing.queues(caller.project_id))

    async def DeleteQueue(self, request: DeleteQueueRequest, caller: Caller) -> DeleteQueueResponse:
        await self._processing.delete_queue(
            caller.project_id, request.queue, allow_missing=request.allow_missing
        )
        return DeleteQueueResponse()


def _lease(leased: Leased) -> Lease:
    lease = Lease(
        lease_id=encode_lease_id(leased.ref),
        queue=leased.ref.queue,
        session_id=leased.session_id,
        ranges=[SeqRange(first_seq=first, last_seq=last) for first, last in leased.ranges],
        attempt=leased.attempt,
    )
    lease.expire_time.FromDatetime(leased.until)
    return lease
