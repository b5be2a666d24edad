"""Sessions of all shapes: long and branched, copied, rewound, with an asset."""

import hashlib

from sessiond.v1.asset_service_pb2 import UploadAssetRequest
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest
from sessiond.v1.message_pb2 import Message
from sessiond.v1.task_pb2 import Task
from sessiond.v1.task_service_pb2 import CreateTaskRequest

from ..support.queues import asking
from ..support.wire import Wire, openai, pictures

CONTENT = b"a picture"


async def filled(wire: Wire) -> str:
    """Make the sessions "long", "copy", "rewound" and "pictures"; return the asset's id."""
    # Create the queue before the first message, so that it receives all messages.
    await wire.processing.LeaseMessages(asking("work"))
    await wire.create("long")
    await wire.store("long", *[_named(f"message {i}", f"id {i}") for i in range(6)])
    await wire.store("long", _named("instead of message 2", "id 6", parent_seq=2))
    await wire.copy("long", "copy", up_to_seq=4)
    await wire.create("rewound")
    await wire.store("rewound", *[f"message {i}" for i in range(5)])
    await wire.rewind("rewound", "another", to_seq=2)

    asset_id = hashlib.sha256(CONTENT).hexdigest()
    await wire.assets.UploadAsset(iter([UploadAssetRequest(asset_id=asset_id, data=CONTENT)]))
    await wire.create("pictures")
    await wire.store("pictures", pictures(asset_id), "and a text")
    await wire.bookmarks.CreateBookmark(
        CreateBookmarkRequest(session_id="long", bookmark=Bookmark(name="here", seq=3))
    )
    for task_id, seqs in (("first", [2, 7]), ("second", [])):
        task = Task(task_id=task_id, message_seqs=seqs)
        await wire.tasks.CreateTask(CreateTaskRequest(session_id="long", task=task))
    await wire.processing.LeaseMessages(asking("work"))
    return asset_id


def _named(text: str, message_id: str, **fields: int) -> Message:
    message = openai(text)
    message.MergeFrom(Message(message_id=message_id, **fields))
    return message
