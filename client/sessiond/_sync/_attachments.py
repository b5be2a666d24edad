# Generated from _async/_attachments.py by scripts/generate-sync-client. Do not edit.
"""Files of messages: attachments of a prompt, and files inside messages that become assets."""

import os
from collections.abc import Iterable
from pathlib import Path

from sessiond._requests.attachments import Attachment
from sessiond._requests.inline_files import extracted, least_bytes
from sessiond._sync._assets import Assets
from sessiond._sync._connection import Connection
from sessiond._sync._wire import run_blocking
from sessiond.errors import SessiondError, invalid_field
from sessiond.v1.message_pb2 import Message, Part

MAX_INLINE_BYTES = 256 * 1024
# Limit for all inline attachments together: the message has to fit into one request.
MAX_ALL_INLINE_BYTES = 1024 * 1024


def parts_of(connection: Connection, attachments: Iterable[Attachment]) -> list[Part]:
    """Return the parts of a message that hold the attachments, or refer to them.

    Raises:
        InvalidField: if a file cannot be read.
        AssetNotFound: if there is no such asset.
        SessiondError: as in assets.upload.
    """
    assets = Assets(connection)
    left = MAX_ALL_INLINE_BYTES
    parts = []
    for attachment in attachments:
        media_type = attachment.media_type
        if attachment.asset_id is not None and not media_type:
            # The media type determines the kind of the part.
            media_type = (assets.get(attachment.asset_id)).media_type
        try:
            source = attachment.data if attachment.path is None else attachment.path
            if source is None:
                parts.append(attachment.part(media_type))
                continue
            size = (
                len(source)
                if isinstance(source, bytes)
                else (run_blocking(os.stat, source)).st_size
            )
            if size <= min(left, MAX_INLINE_BYTES):
                data = (
                    source if isinstance(source, bytes) else run_blocking(Path(source).read_bytes)
                )
                left -= len(data)
                parts.append(attachment.part(media_type, inline=data))
            else:
                asset = assets.upload(source, media_type=media_type)
                parts.append(attachment.part(media_type, asset_id=asset.asset_id))
        except SessiondError:
            # Some SessiondErrors are also OSErrors.
            raise
        except OSError as error:
            raise invalid_field(f"{attachment.place}.path", f"cannot be read: {error}") from error
    return parts


class FileExtractor:
    """Uploads files inside messages, and replaces them with references to the assets.

    A file that occurs in several messages is uploaded once.

    Args:
        connection: makes the calls.
        extract_files: the caller's value: whether to extract files, or the minimum size in bytes.

    Attributes:
        least: size of the smallest file to extract. None = no file is extracted.

    Raises:
        InvalidField: if extract_files is malformed.
    """

    def __init__(self, connection: Connection, extract_files: object) -> None:
        self.least = least_bytes(extract_files)
        self._assets = Assets(connection)
        self._uploaded: set[str] = set()

    def take(self, message: Message) -> Message:
        """Upload the files of a message, and return the message to store.

        Raises:
            SessiondError: as in assets.upload.
        """
        if self.least is None:
            return message
        # Reading and hashing many megabytes would block the event loop.
        result, files = run_blocking(extracted, message, self.least)
        for file in files:
            if file.asset_id not in self._uploaded:
                self._assets.upload(
                    file.content, media_type=file.media_type, asset_id=file.asset_id
                )
                self._uploaded.add(file.asset_id)
        return result
