"""Calls and checks that the tests of assets share."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessiond.v1.asset_service_pb2 import (
    DownloadAssetRequest,
    DownloadAssetResponse,
    GetAssetRequest,
    UploadAssetRequest,
)
from sessiond.v1.message_pb2 import (
    Message,
)

from ..support.s3 import BUCKET, S3
from ..support.wire import Wire, pictures

Query = Callable[..., list[tuple[object, ...]]]

PIECE = 256 * 1024
NOBODY = hashlib.sha256(b"nobody has this").hexdigest()


class Store:
    """The object store under test, as its operator sees it."""

    def __init__(self, directory: Path | None, s3: S3 | None) -> None:
        self.directory, self.s3 = directory, s3

    @property
    def location(self) -> str:
        return str(self.directory) if self.directory else f"s3://{BUCKET}/some/prefix"

    def everything(self) -> list[str]:
        """Return all objects, and all leftovers of uploads."""
        if self.s3:
            return self.s3.keys() + self.s3.uploads()
        assert self.directory
        return sorted(
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if path.is_file()
        )


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def requests_of(content: bytes, piece: int = PIECE, **head: Any) -> list[UploadAssetRequest]:
    """Return the requests of an upload. An empty asset takes one request without data."""
    requests = [
        UploadAssetRequest(data=content[start : start + piece])
        for start in range(0, len(content), piece)
    ]
    requests = requests or [UploadAssetRequest()]
    for name, value in head.items():
        setattr(requests[0], name, value)
    return requests


def upload(
    wire: Wire,
    content: bytes,
    *,
    piece: int = PIECE,
    options: dict[str, Any] | None = None,
    **head: Any,
) -> Any:
    """Return the call, to be awaited."""
    return wire.assets.UploadAsset(iter(requests_of(content, piece, **head)), **(options or {}))


async def pieces(wire: Wire, asset_id: str, **fields: Any) -> list[DownloadAssetResponse]:
    return [
        piece
        async for piece in wire.assets.DownloadAsset(
            DownloadAssetRequest(asset_id=asset_id, **fields)
        )
    ]


async def download(wire: Wire, asset_id: str, **fields: Any) -> bytes:
    return b"".join(piece.data for piece in await pieces(wire, asset_id, **fields))


def get(wire: Wire, asset_id: str, **options: Any) -> Any:
    return wire.assets.GetAsset(GetAssetRequest(asset_id=asset_id), **options)


def mention(asset_id: str) -> Message:
    return pictures(asset_id)


def pass_time(query: Query, seconds: float = 7200) -> None:
    """Move the times of all uploads, and the due times of loose objects, into the past."""
    query("UPDATE assets SET touched_at = touched_at - %s * interval '1 s'", [seconds])
    query("UPDATE loose_objects SET due_at = due_at - %s * interval '1 s'", [seconds])


def rows(query: Query) -> tuple[object, ...]:
    """Return the numbers of (assets, references, loose objects)."""
    return query(
        "SELECT (SELECT count(*) FROM assets), (SELECT count(*) FROM asset_refs), (SELECT "
        "count(*) FROM loose_objects)"
    )[0]
