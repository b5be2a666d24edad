"""Sessions of all shapes: long, copied, rewound, with an asset."""

import hashlib

from sessiond.v1.asset_service_pb2 import UploadAssetRequest
from sessiond.v1.bookmark_pb2 import Bookmark
from sessiond.v1.bookmark_service_pb2 import CreateBookmarkRequest

from ..support.wire import Wire, pictures

CONTENT = b"a picture"


async def filled(wire: Wire) -> str:
    """Make the sessions "long", "copy", "rewound" and "pictures"; return the asset's id."""
    await wire.create("long")
    await wire.store("long", *[f"message {i}" for i in range(7)])
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
    return asset_id
