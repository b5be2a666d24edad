"""A request for every RPC."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sessiond.v1 import admin_service_pb2 as admin
from sessiond.v1 import asset_service_pb2 as assets
from sessiond.v1 import bookmark_service_pb2 as bookmarks
from sessiond.v1 import conversation_service_pb2 as conversations
from sessiond.v1 import limits_pb2 as limits
from sessiond.v1 import processing_service_pb2 as processing
from sessiond.v1 import session_service_pb2 as ss
from sessiond.v1 import task_service_pb2 as tasks
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.rewind_pb2 import RewindSessionRequest
from sessiond.v1.session_pb2 import Session
from sessiond.v1.task_pb2 import TASK_STATUS_RUNNING, Task
from sessiond_server.queues.service import encode_lease_id
from sessiond_server.queues.store.rows import LeaseRef

from ..support.wire import Wire, openai


def title(session_id: str) -> ss.UpdateSessionRequest:
    return ss.UpdateSessionRequest(session=Session(session_id=session_id, title="t"))


LEASE_ID = encode_lease_id(LeaseRef(UUID(int=1), UUID(int=2), "q", UUID(int=3)))

# For each RPC, a function that makes a valid request for a session_id. The tasks, assets and so on
# that the request names do not exist.
CALLS: dict[str, Callable[[str], Any]] = {
    "CreateSession": lambda s: ss.CreateSessionRequest(session=Session(session_id=s)),
    "GetSession": lambda s: ss.GetSessionRequest(session_id=s),
    "ListSessions": lambda s: ss.ListSessionsRequest(),
    "UpdateSession": title,
    "ResumeSession": lambda s: ss.ResumeSessionRequest(session_id=s),
    "DestroySession": lambda s: ss.DestroySessionRequest(session_id=s),
    "DeleteSession": lambda s: ss.DeleteSessionRequest(session_id=s),
    "DeleteSessions": lambda s: ss.DeleteSessionsRequest(filter={"session_id_prefix": s}),
    "CopySession": lambda s: ss.CopySessionRequest(session_id=s),
    "RewindSession": lambda s: RewindSessionRequest(session_id=s, to_seq=0),
    "ListCopies": lambda s: ss.ListCopiesRequest(session_id=s),
    "GetTokenCounts": lambda s: ss.GetTokenCountsRequest(session_id=s),
    "ImportSession": lambda s: ss.ImportSessionRequest(session=Session(session_id=s)),
    "StoreMessages": lambda s: ss.StoreMessagesRequest(session_id=s, messages=[openai("x")]),
    "BatchStoreMessages": lambda s: ss.BatchStoreMessagesRequest(
        requests=[ss.StoreMessagesRequest(session_id=s, messages=[openai("x")])]
    ),
    "ImportMessages": lambda s: ss.ImportMessagesRequest(session_id=s, messages=[openai("x")]),
    "GetMessages": lambda s: ss.GetMessagesRequest(session_id=s),
    "ListMessages": lambda s: ss.ListMessagesRequest(session_id=s),
    "ExportSession": lambda s: ss.ExportSessionRequest(session_id=s),
    "GetMessage": lambda s: ss.GetMessageRequest(session_id=s, seq=1),
    "CreateTask": lambda s: tasks.CreateTaskRequest(session_id=s),
    "GetTask": lambda s: tasks.GetTaskRequest(session_id=s, task_id="t"),
    "ListTasks": lambda s: tasks.ListTasksRequest(session_id=s),
    "UpdateTask": lambda s: tasks.UpdateTaskRequest(
        session_id=s, task=Task(task_id="t", status=TASK_STATUS_RUNNING)
    ),
    "ReorderTasks": lambda s: tasks.ReorderTasksRequest(session_id=s, task_ids=["t"]),
    "DeleteTask": lambda s: tasks.DeleteTaskRequest(session_id=s, task_id="t"),
    "CreateBookmark": lambda s: bookmarks.CreateBookmarkRequest(
        session_id=s, bookmark=Bookmark(name="b")
    ),
    "GetBookmark": lambda s: bookmarks.GetBookmarkRequest(session_id=s, name="b"),
    "ListBookmarks": lambda s: bookmarks.ListBookmarksRequest(session_id=s),
    "UpdateBookmark": lambda s: bookmarks.UpdateBookmarkRequest(
        session_id=s, bookmark=Bookmark(name="b", description="d")
    ),
    "DeleteBookmark": lambda s: bookmarks.DeleteBookmarkRequest(session_id=s, name="b"),
    "LeaseMessages": lambda s: processing.LeaseMessagesRequest(queue="q"),
    "ExtendLease": lambda s: processing.ExtendLeaseRequest(lease_id=LEASE_ID),
    "AcknowledgeMessages": lambda s: processing.AcknowledgeMessagesRequest(lease_id=LEASE_ID),
    "RequeueMessages": lambda s: processing.RequeueMessagesRequest(
        queue="q", session_id=s, failed=True
    ),
    "GetProcessingCounts": lambda s: processing.GetProcessingCountsRequest(queue="q", session_id=s),
    "ListFailedMessages": lambda s: processing.ListFailedMessagesRequest(queue="q", session_id=s),
    "ListQueues": lambda s: processing.ListQueuesRequest(),
    "DeleteQueue": lambda s: processing.DeleteQueueRequest(queue="q"),
    "UploadAsset": lambda s: assets.UploadAssetRequest(data=b"x"),
    "DownloadAsset": lambda s: assets.DownloadAssetRequest(asset_id="0" * 64),
    "GetAsset": lambda s: assets.GetAssetRequest(asset_id="0" * 64),
    "Send": lambda s: conversations.SendRequest(session_id=s, prompt="x"),
    "Abort": lambda s: conversations.AbortRequest(session_id=s),
    "PreviewTurn": lambda s: conversations.PreviewTurnRequest(session_id=s, prompt="x"),
    "GetTurn": lambda s: conversations.GetTurnRequest(session_id=s, turn_id=str(UUID(int=7))),
    "ListTurns": lambda s: conversations.ListTurnsRequest(session_id=s),
    "Watch": lambda s: conversations.WatchRequest(session_id=s),
}
ADMIN_CALLS: dict[str, Any] = {
    "CreateProject": admin.CreateProjectRequest(project=admin.Project(name="p")),
    "DeleteProject": admin.DeleteProjectRequest(project="p", allow_missing=True),
    "ListProjects": admin.ListProjectsRequest(),
    "CreateApiKey": admin.CreateApiKeyRequest(project="default"),
    "ListApiKeys": admin.ListApiKeysRequest(project="default"),
    "GetProjectLimits": limits.GetProjectLimitsRequest(project="default"),
    "SetProjectLimits": limits.SetProjectLimitsRequest(
        project="default", limits=limits.ProjectLimits()
    ),
    "GetProjectUsage": limits.GetProjectUsageRequest(project="default"),
    "RevokeApiKey": admin.RevokeApiKeyRequest(key_id="k"),
}
# The RPCs that require an existing session.
BY_ID = [
    name
    for name in CALLS
    if name == "UpdateSession" or "session_id" in CALLS[name]("x").DESCRIPTOR.fields_by_name
]
UPLOADS = ("ImportMessages", "ImportSession", "UploadAsset")
DOWNLOADS = ("BatchStoreMessages", "GetMessages", "ExportSession", "DownloadAsset", "Send", "Watch")


def call(wire: Wire, name: str, request: Any, **options: Any) -> Any:
    return wire.method(name)(iter([request]) if name in UPLOADS else request, **options)
